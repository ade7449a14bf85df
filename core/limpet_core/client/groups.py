"""Groups: membership of groups, from the join to the leave, over reconnects."""

from __future__ import annotations

from typing import Final

from limpet_core.client.request import JOIN, LEAVE, Request
from limpet_core.errors import SendError
from limpet_core.nothing import NOTHING

_NONE_LISTED: Final[tuple[int, frozenset[str]]] = 0, frozenset()


class Groups:
    """The groups of a client, and the joins and leaves that wait for an answer.

    A repeat of a join must not come after a newer leave of the same group, nor the other way round: the older request
    is *superseded* as soon as the newer one is made, and *overtaken* when the newer one is executed.

    Attributes:
        joined: the groups that the application has joined, in order. They outlive a connection: the session joins
            them again (a *rejoin*) when a new one is established.
    """

    __slots__ = ("_changes", "_listed", "_pending", "_rejoins", "joined")

    def __init__(self) -> None:
        self.joined: dict[str, None] = NOTHING
        self._changes = 0  # of what is joined
        self._listed = _NONE_LISTED
        # Made when they are needed, which is not for long.
        self._pending: dict[str, list[Request]] = NOTHING  # joins and leaves without an answer, of each group
        self._rejoins: dict[str, None] = NOTHING  # groups to join again if the pending leave fails

    def listed(self) -> frozenset[str]:
        """Return what is joined; the same object until that changes. Another thread may call it at any time."""
        changes = self._changes  # read first: what a change during the copy makes of it is not taken for the new state
        if self._listed[0] != changes:
            self._listed = changes, frozenset(self.joined)
        return self._listed[1]

    def join(self, group: str) -> None:
        """Note that the client is in ``group``."""
        if self.joined is NOTHING:
            self.joined = {}
        self.joined[group] = None
        self._changes += 1

    def leave(self, group: str) -> None:
        """Note that the client is not in ``group``."""
        if group in self.joined:
            del self.joined[group]
        self._changes += 1

    def leave_all(self) -> None:
        """Note that the client is in no group."""
        self.joined = NOTHING
        self._changes += 1

    def add(self, request: Request) -> list[Request]:
        """Add a join or leave; return the older requests that it supersedes."""
        opposites = self._opposites_before(request)
        for older in opposites:
            older.superseded = True
        if self._pending is NOTHING:
            self._pending = {}
        self._pending.setdefault(request.group, []).append(request)
        return opposites

    def remove(self, request: Request) -> None:
        """Remove a join or leave."""
        pending = self._pending[request.group]
        pending.remove(request)
        if not pending:
            del self._pending[request.group]
            self._pending = self._pending or NOTHING

    def withdraw(self, request: Request) -> None:
        """Remove a join or leave that was never sent, as if it had never been made."""
        opposites = self._opposites_before(request)
        self.remove(request)
        for older in opposites:
            pending = self._pending[request.group]
            later = pending[pending.index(older) :]
            older.superseded = older.overtaken or any(other.kind is request.kind for other in later)

    def settle(self, request: Request, error: SendError | None, duplicate: bool) -> None:
        """Remove a join or leave that has its answer, or that will get none.

        Args:
            error: None: the request was executed.
            duplicate: whether the service answered that the request was executed before.
        """
        group = request.group
        self._order(request, executed=error is None, now=error is None and not duplicate)
        self.remove(request)
        if error is None and not request.overtaken:
            if request.kind is JOIN:
                self.join(group)
            else:
                self.leave(group)
        if request.kind is JOIN:
            if request.undone and duplicate:  # the leave before may have been executed after it
                self.rejoin_unless_left(group)
        elif error is None:
            if group in self._rejoins:
                del self._rejoins[group]
        elif request.undone and error.name == "Superseded":  # the join before was executed after it
            self.join(group)

    def _order(self, request: Request, *, executed: bool, now: bool) -> None:
        """Note for the other requests of the group in which order the service executed them."""
        if executed:
            for older in self._opposites_before(request):
                older.overtaken = True
        pending = self._pending[request.group]
        for later in pending[pending.index(request) + 1 :]:
            if later.kind is request.kind:
                later.undone &= not now
            elif now or request.kind is LEAVE:
                # This request and a later opposite were repeated after a recovery. If the service failed to execute
                # this one the first time, it may have executed it after the other one now: a duplicate then.
                later.undone = later.carried

    def _opposites_before(self, request: Request) -> list[Request]:
        """Return the older requests for the same group that ask for the opposite."""
        opposites: list[Request] = []
        for other in self._pending.get(request.group, ()):
            if other is request:
                break
            if other.kind is not request.kind:
                opposites.append(other)
        return opposites

    def transport_lost(self) -> None:
        """Note that the open transport is lost: pending leaves may have been executed on it, and in order."""
        for pending in self._pending.values():
            for request in pending:
                request.undone &= request.kind is not LEAVE

    # ---- Rejoins

    def rejoin_unless_left(self, group: str) -> None:
        """Join ``group`` again, if the leave of it that is pending fails."""
        if self._rejoins is NOTHING:
            self._rejoins = {}
        self._rejoins[group] = None

    def rejoin_refused(self, group: str) -> None:
        """Note that the service refused to let the client join ``group`` again."""
        self.leave(group)

    def connection_lost(self) -> None:
        """Forget the rejoins: all groups that are joined are joined again on the next connection."""
        self._rejoins = NOTHING

    def all_to_rejoin(self) -> list[str]:
        """Return the groups to join on a new connection; those with a pending leave wait for its end."""
        for group in self.joined:
            if self._is_leaving(group):
                self.rejoin_unless_left(group)
        return [group for group in self.joined if group not in self._rejoins]

    def has_rejoin(self, group: str) -> bool:
        """Whether ``group`` is to be joined again once no leave of it is pending."""
        return group in self._rejoins

    def take_rejoins(self) -> list[str]:
        """Return the groups whose leave has failed, to be joined again now."""
        if not self._rejoins:
            return []
        groups = [group for group in self._rejoins if not self._is_leaving(group)]
        for group in groups:
            del self._rejoins[group]
        return groups

    def is_unsettled(self, group: str) -> bool:
        """Whether a leave of ``group`` is pending, or ``group`` is to be joined again."""
        return group in self._rejoins or self._is_leaving(group)

    def _is_leaving(self, group: str) -> bool:
        return any(request.kind is LEAVE for request in self._pending.get(group, ()))

    def clear(self) -> None:
        """Forget all groups and requests."""
        self.leave_all()
        self._pending = self._rejoins = NOTHING
