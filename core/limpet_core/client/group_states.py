"""GroupStates: subscriptions of the states of groups, the own states, and the requests for both."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from limpet_core.client.events import Event, GroupStatesChanged
from limpet_core.client.log_lines import LogLines
from limpet_core.client.request import RENEW, RESTORE, SET_STATE, SUBSCRIBE, UNSUBSCRIBE, Request
from limpet_core.client.state_cache import StateCache
from limpet_core.errors import SendError
from limpet_core.protocol.messages import GroupState, GroupStateSnapshot, StatesMessage
from limpet_core.redaction import Secrets
from limpet_core.text import one_line

_OWN: Final = frozenset({SET_STATE, RESTORE})
_CHAINED: Final = frozenset({SET_STATE, RESTORE, SUBSCRIBE, UNSUBSCRIBE, RENEW})


class GroupStates:
    """What a client knows of the states of groups, and what it has asked for.

    The last call must win, also when an older request is repeated: each set holds the whole state. So of the requests
    for the own state in one group, one at a time is on its way, in the order of the calls; the next is sent when it is
    settled. The same goes for the subscription of one group. Both wait until the group is joined again, after a
    reconnect.

    A *renewal* is a wish first. It becomes a request when no other request of its kind is pending, since that may
    make it needless. If neither the request nor its repeats get an answer, it is wished for again: only a refusal ends
    it. Each such round takes ``ack_timeout`` at least, which is the backoff.
    """

    __slots__ = (
        "_caches",
        "_chains",
        "_events",
        "_freed",
        "_log",
        "_own",
        "_rejoining",
        "_renewals",
        "_restores",
        "_secrets",
        "_touched",
    )

    def __init__(self, secrets: Secrets, events: list[Event], lines: LogLines) -> None:
        self._secrets = secrets
        self._events = events
        self._log = lines
        self._caches: dict[str, StateCache] = {}  # of groups that are subscribed, or about to be
        self._own: dict[str, dict[str, str]] = {}  # the last state that the service has or may have, of each group
        self._chains: dict[tuple[str, bool], list[Request]] = {}  # by group, and whether it is about the own state
        self._freed: dict[tuple[str, bool], None] = {}  # chains whose first request may go on
        self._rejoining: dict[str, int] = {}  # how many rejoins of a group are pending
        self._restores: dict[str, None] = {}  # groups whose own state is to be set again
        self._renewals: dict[str, None] = {}  # groups whose subscription is to be renewed
        self._touched: dict[str, None] = {}  # groups whose wishes may have nothing to wait for any more

    def states(self, group: str) -> dict[str, GroupState] | None:
        """Return the states of a group that is subscribed or about to be, never to be changed; None for others."""
        cache = self._caches.get(group)
        return None if cache is None else cache.states

    def receive(self, message: StatesMessage, now: float, former: Collection[str]) -> None:
        """Take in what the service says of the states of a group; nothing, if that is not subscribed.

        Args:
            message: what it says.
            now: the time.
            former: ids of this client's own former connections.
        """
        cache = self._caches.get(message.group)
        if cache is None:
            return
        ignored = cache.ignored
        take = cache.snapshot if type(message) is GroupStateSnapshot else cache.update
        self._tell(take(message.items, now, former))
        if cache.ignored and not ignored:
            self._log.warning("the group %s has too many states: some are ignored", self._shown(message.group))
        if unreadable := message.items.count(None):
            self._log.debug("%d states of the group %s cannot be read", unreadable, self._shown(message.group))

    # ---- Requests

    def add(self, request: Request) -> None:
        """Add a request that is about states."""
        self._chains.setdefault(_chain(request), []).append(request)
        if request.kind is SUBSCRIBE:
            self._caches.setdefault(request.group, StateCache(request.group)).awaited = True

    def remove(self, request: Request) -> None:
        """Remove a request for a group, of whatever kind, that is settled or forgotten."""
        if self._restores or self._renewals:
            self._touched[request.group] = None
        if request.kind in _CHAINED:
            chain = self._chains[key := _chain(request)]
            if chain[0] is request:
                self._freed[key] = None
            chain.remove(request)
            if not chain:
                del self._chains[key]

    def rejoins(self, group: str) -> None:
        """Note that the session joins ``group`` again."""
        self._rejoining[group] = self._rejoining.get(group, 0) + 1

    def rejoin_ended(self, group: str) -> None:
        """Note that the session does so no more."""
        self._rejoining[group] -= 1
        if not self._rejoining[group]:
            del self._rejoining[group]
            self._freed.update({(group, True): None, (group, False): None})

    def holds(self, request: Request) -> bool:
        """Whether a request has to wait for another one."""
        if request.kind not in _CHAINED:
            return False
        return request.group in self._rejoining or self._chains[_chain(request)][0] is not request

    def next_requests(self) -> list[Request]:
        """Return the requests that need not wait any more, once; perhaps some that are on their way already."""
        freed, self._freed = self._freed, {}
        chains = [chain for key in freed if (chain := self._chains.get(key)) is not None]
        return [chain[0] for chain in chains if not self.holds(chain[0])]

    def waits(self, group: str) -> bool:
        """Whether there may be something to ask for, now that a request for ``group`` is settled."""
        return bool(self._chains or self._restores or self._renewals) and (
            group in self._restores
            or group in self._renewals
            or (group, True) in self._chains
            or (group, False) in self._chains
        )

    def withdraw(self, request: Request) -> None:
        """Note that a request about states is taken back; it was removed before."""
        if request.kind is SUBSCRIBE:
            self._drop_unconfirmed(request.group)

    def settle(self, request: Request, error: SendError | None, duplicate: bool) -> None:
        """Draw the conclusions from the end of a request about states, which was removed before.

        Args:
            request: the request.
            error: None: the request was executed.
            duplicate: whether the service answered that the request was executed before.
        """
        if error is not None:
            self._failed(request, error)
            return
        group = request.group
        if request.kind is SET_STATE:
            self._want(group, request.state)
            self._restores.pop(group, None)
        elif request.kind is SUBSCRIBE:
            self._caches[group].confirmed = True
            self._renewals.pop(group, None)
            if duplicate:  # then the snapshot went to a transport that is gone
                self._renewals[group] = self._touched[group] = None
        elif request.kind is UNSUBSCRIBE:
            self._end(group)

    def _want(self, group: str, state: dict[str, str] | None) -> None:
        """Note the state that the next connection is to have."""
        if state is None:
            self._own.pop(group, None)
            self._restores.pop(group, None)
        else:
            self._own[group] = state

    def _failed(self, request: Request, error: SendError) -> None:
        group = request.group
        if request.kind is SET_STATE:
            if error.outcome == "unknown":  # the service may have forgotten the state before: it must not come back
                self._want(group, request.state)
        elif request.kind is SUBSCRIBE:
            self._drop_unconfirmed(group)
        elif request.kind is RESTORE:
            if error.outcome == "rejected":
                self._own.pop(group, None)
            else:
                self._restores[group] = self._touched[group] = None
            self._log.warning("the own state in the group %s could not be set again: %s", self._shown(group), error)
        elif request.kind is RENEW:
            if error.outcome == "rejected":
                self._end(group, error)
            else:
                self._renewals[group] = self._touched[group] = None
            self._log.warning("the states of the group %s could not be had anew: %s", self._shown(group), error)

    def left(self, group: str) -> None:
        """Note that the client has left ``group``, which ends its state there.

        It ends the subscription, too, if the client may not join the group: only the service knows that. So the
        subscription is renewed.
        """
        self._own.pop(group, None)
        self._restores.pop(group, None)
        cache = self._caches.get(group)
        if cache is not None and cache.confirmed:
            self._renewals[group] = self._touched[group] = None

    def _end(self, group: str, error: SendError | None = None) -> None:
        """Forget the subscription of ``group``, if there is one; a later call may ask for it again already."""
        cache = self._caches.get(group)
        if cache is not None:
            self._renewals.pop(group, None)
            cache.confirmed = False
            self._tell(cache.clear(error))
            self._drop_unconfirmed(group)

    def _drop_unconfirmed(self, group: str) -> None:
        """Forget the states of a group that nobody subscribes any more."""
        asked = any(request.kind is SUBSCRIBE for request in self._chains.get((group, False), ()))
        if not asked and not self._caches[group].confirmed:
            self._tell(self._caches.pop(group).clear())

    # ---- Connections and transports

    def connected(self, *, restore: bool) -> None:
        """Wish for all subscriptions of the connection before, on a new one; for the own states only if ``restore``."""
        if not restore:
            self._own.clear()
        self._restores.update(dict.fromkeys(self._own))
        self._touched.update(self._restores)
        self.recovered()

    def recovered(self) -> None:
        """Wish for fresh snapshots: updates were lost with the transport."""
        self._renewals.update((group, None) for group, cache in self._caches.items() if cache.confirmed)
        self._touched.update(self._renewals)

    def take_restores(self, blocked: Callable[[str], bool]) -> list[tuple[str, dict[str, str]]]:
        """Return the groups whose own state is to be set again now, and that state; call :meth:`take_renewals` next.

        Args:
            blocked: says of a group whether it must be joined first.
        """
        return [(group, self._own[group]) for group in self._take(self._restores, True, blocked)]

    def take_renewals(self, blocked: Callable[[str], bool]) -> list[str]:
        """Return the groups whose subscription is to be renewed now."""
        groups = self._take(self._renewals, False, blocked)
        self._touched.clear()
        return groups

    def _take(self, wishes: dict[str, None], own: bool, blocked: Callable[[str], bool]) -> list[str]:
        groups = [
            group
            for group in self._touched
            if group in wishes
            and (group, own) not in self._chains
            and group not in self._rejoining
            and not blocked(group)
        ]
        for group in groups:
            del wishes[group]
        return groups

    def transport_lost(self) -> None:
        """Note that the transport is lost, and with it any number of updates."""
        for cache in self._caches.values():
            cache.transport_lost()

    def connection_lost(self, connection_id: str) -> None:
        """Note that the connection ``connection_id`` is gone, and with it the own states.

        The states of others stay as they are until the first snapshot on the next connection.
        """
        self._restores.clear()
        self._renewals.clear()
        for cache in self._caches.values():
            self._tell(cache.connection_lost(connection_id))

    def stop(self) -> None:
        """Wish for nothing any more: the session stops."""
        self._restores.clear()
        self._renewals.clear()
        self._touched.clear()

    def forget_own(self, group: str) -> None:
        """Forget the own state in ``group``, which is not joined again."""
        self._own.pop(group, None)

    def clear(self) -> None:
        """Forget everything: the session has stopped, and no request is left."""
        for cache in self._caches.values():
            self._tell(cache.clear())
        self._caches.clear()
        self._own.clear()
        self._freed.clear()

    def _tell(self, change: GroupStatesChanged | None) -> None:
        if change is not None:
            self._events.append(change)

    def _shown(self, group: str) -> str:
        return one_line(repr(group), secrets=self._secrets)


NO_GROUP_STATES: Final = GroupStates(Secrets(), [], LogLines())
"""In place of those of a session that has not needed any so far, which would take 0.7 KiB. All sessions share it: never
call :meth:`GroupStates.add` and :meth:`GroupStates.rejoins`, and all else leaves it as it is.
"""


def _chain(request: Request) -> tuple[str, bool]:
    return request.group, request.kind in _OWN
