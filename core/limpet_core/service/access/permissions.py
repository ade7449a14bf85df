"""The permissions of a connection: roles of its token, later grants and revocations."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeAlias

from limpet_core.protocol.names import is_group_name
from limpet_core.service.access.patterns import GroupPattern

MAX_LITERALS: Final = 1000
MAX_PATTERNS: Final = 9
"""The maximum number of patterns for one permission of one connection (emulator: ten with the default rule)."""

_JOIN_LEAVE: Final = "webpubsub.joinLeaveGroup"
_SEND: Final = "webpubsub.sendToGroup"


SavedRules: TypeAlias = tuple[bool, dict[str, bool], list[str]]
"""The default rule, the rules for single groups, and the patterns, of one permission of one connection."""


class GroupRules:
    """The rules of one permission of a connection.

    A rule for exactly this group decides; else any matching pattern allows; else the default rule, which denies unless
    the permission was granted for all groups (emulator).
    """

    __slots__ = ("_all", "_literals", "_patterns")

    def __init__(self) -> None:
        self._all = False
        self._literals: dict[str, bool] = {}
        self._patterns: list[GroupPattern] = []

    def allows(self, group: str) -> bool:
        """Return whether the connection has the permission for ``group``."""
        explicit = self._literals.get(group)
        return self._falls_back(group) if explicit is None else explicit

    def grant(self, group: str | None = None) -> None:
        """Grant the permission for ``group``, a plain name, or for all groups (``None``).

        Raises:
            ValueError: for the 1001st single group.
        """
        if group is None:
            self._all = True
        else:
            self._set(group, allowed=True)

    def revoke(self, group: str | None = None) -> None:
        """Revoke the permission for ``group`` or for all groups (``None``); memberships stay (emulator).

        A single revoked group stays denied even under a permission for all groups.

        Raises:
            ValueError: for the 1001st single group.
        """
        if group is None:
            self._all = False
        else:
            self._set(group, allowed=False)

    def grant_pattern(self, text: str) -> None:
        """Grant the permission for all groups that match a pattern.

        A pattern without wildcards is a plain name, ``**`` means all groups (emulator).

        Raises:
            InvalidPattern: for a text that is not a pattern.
            ValueError: for the tenth pattern, or the 1001st single group.
        """
        pattern = GroupPattern(text)
        if pattern.literal is not None:
            self.grant(pattern.literal)
        elif pattern.matches_everything:
            self._all = True
        elif len(self._patterns) >= MAX_PATTERNS:
            raise ValueError(f"a connection has at most {MAX_PATTERNS} patterns for one permission")
        else:
            self._patterns.append(pattern)

    def save(self) -> SavedRules:
        """Return the rules as values for :meth:`restore`; to be read before the next change."""
        return self._all, self._literals, [pattern.text for pattern in self._patterns]

    def restore(self, saved: SavedRules) -> None:
        """Have the rules that were saved.

        Raises:
            InvalidPattern: for a text that is not a pattern.
        """
        self._all, literals, patterns = saved
        self._literals = dict(literals)
        self._patterns = [GroupPattern(text) for text in patterns]

    def _falls_back(self, group: str) -> bool:
        return self._all or any(pattern.matches(group) for pattern in self._patterns)

    def _set(self, group: str, *, allowed: bool) -> None:
        # Removing the opposite rule is enough if the patterns or the default rule give the wanted result.
        opposite = self._literals.get(group) is (not allowed)
        if opposite:
            del self._literals[group]
        if self.allows(group) is allowed:
            return
        if len(self._literals) >= MAX_LITERALS:
            raise ValueError(f"a connection has at most {MAX_LITERALS} single groups for one permission")
        self._literals[group] = allowed


class Permissions:
    """The two permissions of a logical connection; they survive a recovery (emulator).

    Args:
        roles: of the client's token, such as ``webpubsub.joinLeaveGroup``; unknown ones are ignored.

    Attributes:
        join_leave: the permission to join and leave groups.
        send: the permission to send to groups.
    """

    __slots__ = ("join_leave", "send")

    def __init__(self, roles: Iterable[str] = ()) -> None:
        self.join_leave: GroupRules = GroupRules()
        self.send: GroupRules = GroupRules()
        for role in roles:
            # An invalid role, or a role beyond the limits, grants nothing (emulator).
            with suppress(ValueError):
                self._add_role(role)

    def _add_role(self, role: str) -> None:
        # An unknown role grants nothing.
        for name, rules in ((_JOIN_LEAVE, self.join_leave), (_SEND, self.send)):
            if role == name:
                rules.grant()
            elif role.startswith(name + "."):
                group = role[len(name) + 1 :]
                if is_group_name(group):
                    rules.grant(group)
            elif role.startswith(name + "s."):
                rules.grant_pattern(role[len(name) + 2 :])
