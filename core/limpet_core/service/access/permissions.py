"""What a connection may do: roles from its token, later grants and revocations."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from limpet_core.protocol.names import is_group_name
from limpet_core.service.access.patterns import GroupPattern

__all__ = ["MAX_LITERALS", "MAX_PATTERNS", "GroupRules", "Permissions"]

MAX_LITERALS: Final = 1000
MAX_PATTERNS: Final = 9
"""Rules of one kind for one permission of one connection (emulator: ten with the default one)."""

_JOIN_LEAVE: Final = "webpubsub.joinLeaveGroup"
_SEND: Final = "webpubsub.sendToGroup"


class GroupRules:
    """For which groups a connection holds one permission.

    A rule for the very group decides; without one any matching pattern allows; else the default, which
    denies unless the permission was given for all groups (emulator).
    """

    __slots__ = ("_all", "_literals", "_patterns")

    def __init__(self) -> None:
        self._all = False
        self._literals: dict[str, bool] = {}
        self._patterns: list[GroupPattern] = []

    def allows(self, group: str) -> bool:
        """Tell whether the permission holds for ``group``."""
        explicit = self._literals.get(group)
        return self._falls_back(group) if explicit is None else explicit

    def allows_all(self) -> bool:
        """Tell whether the permission was given for all groups."""
        return self._all

    def grant(self, group: str | None = None) -> None:
        """Give the permission for ``group``, a plain name, or for all groups.

        Afterwards `allows` is true for the group. Raises `ValueError` at the 1001st single group.
        """
        if group is None:
            self._all = True
        else:
            self._set(group, allowed=True)

    def revoke(self, group: str | None = None) -> None:
        """Take the permission away for ``group`` or for all groups; memberships stay (emulator).

        A single group stays denied under a permission for all groups. Raises `ValueError` at the 1001st
        single group.
        """
        if group is None:
            self._all = False
        else:
            self._set(group, allowed=False)

    def grant_pattern(self, text: str) -> None:
        """Give the permission for all groups that fit a pattern.

        A pattern without wildcards is a plain name, ``**`` means all groups (emulator). Raises
        `InvalidPattern` (a `ValueError`) for no pattern at all and `ValueError` at the tenth pattern.
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

    def _falls_back(self, group: str) -> bool:
        return self._all or any(pattern.matches(group) for pattern in self._patterns)

    def _set(self, group: str, *, allowed: bool) -> None:
        # Taking back the opposite rule is enough where what lies below it already says the same.
        opposite = self._literals.get(group) is (not allowed)
        if opposite:
            del self._literals[group]
        if self.allows(group) is allowed:
            return
        if len(self._literals) >= MAX_LITERALS:
            raise ValueError(f"a connection has at most {MAX_LITERALS} single groups for one permission")
        self._literals[group] = allowed


class Permissions:
    """The two permissions over groups of one logical connection; they survive a recovery (emulator)."""

    __slots__ = ("join_leave", "send")

    def __init__(self, roles: Iterable[str] = ()) -> None:
        self.join_leave: GroupRules = GroupRules()
        self.send: GroupRules = GroupRules()
        for role in roles:
            # A role that cannot be read, or is one too many, gives nothing (emulator).
            with suppress(ValueError):
                self._add_role(role)

    def _add_role(self, role: str) -> None:
        # A role this service does not know gives nothing.
        for name, rules in ((_JOIN_LEAVE, self.join_leave), (_SEND, self.send)):
            if role == name:
                rules.grant()
            elif role.startswith(name + "."):
                group = role[len(name) + 1 :]
                if is_group_name(group):
                    rules.grant(group)
            elif role.startswith(name + "s."):
                rules.grant_pattern(role[len(name) + 2 :])
