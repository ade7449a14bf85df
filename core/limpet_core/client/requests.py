"""Requests from the call to the answer: ack ids, order, repeats, and what is known when it ends badly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from limpet_core.client.options import Options
from limpet_core.client.request import JOIN, LEAVE, PUBLISH, REJOIN, Kind, Request, Settled
from limpet_core.errors import InvalidValue, LocalProtocolError, Outcome, SendError, TooManyRequests
from limpet_core.protocol.messages import AckMessage
from limpet_core.protocol.rules import check_ack_id
from limpet_core.redaction import Secrets
from limpet_core.text import without_secrets

_WINDOW: Final = 500
"""How many requests may be in flight at a time; more wait here.

The service remembers the last 1000 ack ids that it executed (client-spec 3.1.2): with more in flight, what is repeated
after a recovery could be executed again. And it gives up on a connection with 1000 unacknowledged messages: those that
a burst of publishes to a group of one's own brings back must be acknowledged before more are published.
"""

_OWN_KEYS: Final = 1 << 52
"""Ack ids for the session's own requests, from here on: none of them is one that the caller would choose, and all are
below the limit of what a float holds exactly, should somebody on the way read numbers so.
"""

_MAY_PASS: Final = frozenset({"InternalServerError", "Timeout"})

_NOT_HANDLED: Final = frozenset({"Forbidden", "BadRequest", "NotFound"})
"""The errors that say that no event handler was called. With any other a handler may have done its work and failed:
the service answers ``InternalServerError`` then, after retries of its own (emulator).
"""


class Requests:
    """All requests that are not settled, in the order in which they were made.

    Attributes:
        answered: how many requests the service has answered, for good or for a repeat.
        pending: every unsettled request by its key; the order is that of the calls.
        wake_at: when :meth:`wake` has something to do, in seconds; may be early, never late.
    """

    __slots__ = (
        "_backing_off",
        "_in_flight",
        "_memberships",
        "_next_key",
        "_options",
        "_outbox",
        "_outbox_gaps",
        "_own",
        "_own_key",
        "_random",
        "_rejoins",
        "_repeats",
        "_secrets",
        "_transport",
        "_unanswered",
        "_untracked",
        "answered",
        "pending",
        "wake_at",
    )

    def __init__(self, options: Options, random: Callable[[], float], secrets: Secrets) -> None:
        self._options = options
        self._random = random
        self._secrets = secrets
        self._next_key = 1
        self._own_key = _OWN_KEYS
        self._untracked = 0
        self._rejoins = 0
        self._own = 0
        self.pending: dict[int, Request] = {}
        # Each request waits for its answer or for its backoff, or for a connection (then it is in neither).
        # The first dict is ordered by `due`, since all wait equally long: a queue and an index in one.
        self._unanswered: dict[int, Request] = {}
        self._backing_off: dict[int, Request] = {}
        # Lists: a deque takes 0.7 KiB, even empty.
        self._outbox: list[Request] = []
        self._repeats: list[Request] = []  # of what is in flight: they wait for nobody
        self._memberships: dict[str, list[Request]] = {}  # the joins and leaves that are pending, of each group
        self._in_flight = 0
        self._transport = 1  # the number of the current or next transport
        self._outbox_gaps = 0  # entries of the outbox that were settled before they could be sent
        self.answered: int = 0
        self.wake_at: float = math.inf

    # What the application wants

    def reserve(self, ack_id: int | None, ack: bool, own: bool) -> int:
        """Return the key for a new request: the caller's ack id if it can be used, else a fresh one.

        Raises TooManyRequests, or LocalProtocolError where the ack id cannot be used; nothing has changed then.
        """
        waiting = len(self.pending) - self._rejoins - self._own
        if waiting >= self._options.max_pending_requests:
            raise TooManyRequests(
                f"{waiting} requests wait for the service already (max_pending_requests); "
                "wait for some of them before making more"
            )
        if own:
            return self._own_key
        if ack_id is None:
            return self._next_key if ack else self._untracked - 1
        if not ack:
            raise InvalidValue("ack_id has no meaning with ack=False")
        check_ack_id(ack_id)
        if ack_id in self.pending:
            raise LocalProtocolError(f"ack_id {ack_id} belongs to a request that still waits for its answer")
        return ack_id

    def fresh_key(self) -> int:
        """A fresh ack id for a request of the session's own, which no limit holds up."""
        return self._own_key

    def add(self, request: Request) -> list[Settled]:
        """Take a request in. :meth:`send` hands it out, at once or when a connection stands.

        Return the end of older ones about the same group that cannot be repeated any more.
        """
        if request.own or request.kind is REJOIN:
            self._own_key = request.key + 1
        elif request.key > 0:
            # A fresh id must never repeat one of the caller's: the service would answer Duplicate and not
            # execute it.
            self._next_key = max(self._next_key, request.key + 1)
        else:
            self._untracked = request.key
        self.pending[request.key] = request
        if request.kind is REJOIN:
            self._rejoins += 1
        elif request.own:
            self._own += 1
        elif self._options.request_timeout is not None:
            self._wake_at(request.submitted + self._options.request_timeout)
        return self._supersede(request) if request.kind is JOIN or request.kind is LEAVE else []

    def _supersede(self, request: Request) -> list[Settled]:
        settled: list[Settled] = []
        for older in self._opposites_before(request):
            older.superseded = True
            if older.key in self._backing_off:
                text = "the service failed, and a later request for the same group came before the repeat"
                settled.append(self._settle(older, SendError(older.key, "Superseded", text, "rejected")))
        self._memberships.setdefault(request.group, []).append(request)
        return settled

    def _opposites_before(self, request: Request) -> list[Request]:
        """The older requests about the same group that ask for the opposite."""
        opposites: list[Request] = []
        for other in self._memberships.get(request.group, ()):
            if other is request:
                break
            if other.kind is not request.kind:
                opposites.append(other)
        return opposites

    def send(self, request: Request, now: float) -> None:
        """Queue a request for the transport that is open now."""
        # If its handler is only slow, and fails in the end, a repeat would call it once more.
        if not request.queued and not (request.in_flight and self._left_to_service(request)):
            request.queued = True
            (self._repeats if request.in_flight else self._outbox).append(request)
        if request.key > 0 and self._options.ack_timeout is not None:
            request.due = now + self._options.ack_timeout
            self._unanswered.pop(request.key, None)
            self._unanswered[request.key] = request
            self._wake_at(request.due)

    def send_all(self, now: float) -> None:
        """Queue every unsettled request in the original order: a connection stands (again)."""
        for request in self.pending.values():
            self.send(request, now)

    def withdraw(self, key: int) -> Request | None:
        """Take a request back that was never handed to a transport; return it, or None where that is not possible."""
        request = self.pending.get(key)
        if request is None or request.tried:
            return None
        opposites = self._opposites_before(request)
        self._forget(request)
        others = self._memberships.get(request.group, [])
        for older in opposites:  # as if it had never been there
            later = others[others.index(older) :]
            older.superseded = older.overtaken or any(other.kind is request.kind for other in later)
        return request

    def leaving(self) -> set[str]:
        """The groups with a leave of the application that is not settled: no join of our own may come after it."""
        return {request.group for request in self.pending.values() if request.kind is Kind.LEAVE}

    def forget_rejoin(self, group: str) -> bool:
        """Forget the rejoin of ``group``, whose repeat must not come after a leave; return whether there was one."""
        if self._rejoins:
            for request in list(self.pending.values()):
                if request.kind is REJOIN and request.group == group:
                    self._forget(request)
                    return True
        return False

    # What happened

    def take(self) -> list[bytes]:
        """The payloads to send now; from here on they count as handed to the transport."""
        outbox, repeats = self._outbox, self._repeats
        if not outbox and not repeats:
            return []
        payloads: list[bytes] = []
        for request in repeats:
            if request.in_flight:  # else answered since
                request.queued = False
                request.copies = True
                payloads.append(request.payload)
        repeats.clear()
        taken = 0
        for request in outbox:
            if request.queued:
                if request.key > 0:
                    if self._in_flight >= _WINDOW:
                        break
                    self._in_flight += 1
                    request.in_flight = True
                request.queued = False
                if not request.handed:
                    request.handed = request.tried = True
                    request.transport = self._transport
                payloads.append(request.payload)
                if request.key < 0:
                    self._forget(request)
            taken += 1  # sent now, or settled before it could be
        del outbox[:taken]
        return payloads

    def acked(self, ack: AckMessage, now: float) -> Settled | None:
        """The service answered. Return what that settles: nothing, if it is unknown or will be repeated."""
        request = self.pending.get(ack.ack_id)
        if request is None or not request.handed:
            return None
        self.answered += 1
        if ack.success:
            return self._settle(request)
        name, message = (ack.error.name, ack.error.message) if ack.error is not None else ("Unknown", "")
        if name == "Duplicate":  # executed before: client-spec 3.1.2
            if request.undone and request.kind is LEAVE:
                text = "an earlier request to join was executed after it, when both were repeated; leave once more"
                return self._settle(request, SendError(request.key, "Superseded", text, "rejected"))
            return self._settle(request, duplicate=True)
        may_pass = name in _MAY_PASS
        if request.kind is PUBLISH and (name not in _NOT_HANDLED if request.event else may_pass):
            request.doubtful = True
        repeatable = may_pass and not request.superseded and not self._left_to_service(request)
        if repeatable and self._use_repeat(request):
            self._unanswered.pop(request.key, None)
            self._landed(request)
            self._backing_off[request.key] = request
            request.due = now + self._options.retry.delay(request.failures, self._random)
            self._wake_at(request.due)
            return None
        outcome: Outcome = "unknown" if request.doubtful or (may_pass and request.copies) else "rejected"
        name, message = without_secrets(name, secrets=self._secrets), without_secrets(message, secrets=self._secrets)
        return self._settle(request, SendError(request.key, name, message or "the service gave no reason", outcome))

    def dropped(self) -> None:
        """The transport is lost. What was in flight waits for the next one."""
        for request in self.pending.values():
            # The lost answer may have been that its handler failed.
            request.doubtful |= request.event and request.in_flight
            request.queued = request.in_flight = request.copies = False
            request.undone &= request.kind is not LEAVE  # it may have been executed on this transport, and in order
        self._in_flight = 0
        self._transport += 1
        self._outbox_gaps = 0
        self._outbox.clear()
        self._repeats.clear()
        self._unanswered.clear()
        self._backing_off.clear()

    def lost(self) -> list[Settled]:
        """The connection id is gone. Settle what cannot be repeated safely; the rest waits for the next one.

        A join or leave is asked again; a publish that was handed to a transport may have been executed.
        """
        self.dropped()
        settled: list[Settled] = []
        for request in list(self.pending.values()):
            if request.kind is REJOIN:
                self._forget(request)
            elif request.overtaken or (request.kind is PUBLISH and request.handed and self._options.resend == "safe"):
                settled.append(self._fail(request, "ConnectionLost", "the connection was lost before the answer came"))
            else:
                request.doubtful |= request.kind is PUBLISH and request.handed
                request.handed = False
                request.failures = 0
        return settled

    def stop(self) -> list[Settled]:
        """The session stops: everything that waits for an answer fails.

        Those that the application wants no ack for and that are queued for an open transport stay queued: they can
        still be sent.
        """
        settled: list[Settled] = []
        for request in list(self.pending.values()):
            if request.kind is REJOIN:
                self._forget(request)
            elif request.key > 0 and not request.own:
                settled.append(self._fail(request, "Stopped", "the client was stopped before the answer came"))
            elif not request.queued:
                self._forget(request)
        return settled

    def clear(self) -> None:
        """The session has stopped: forget what could not be sent any more."""
        self.pending.clear()
        self._memberships.clear()
        self.dropped()
        self.wake_at = math.inf

    def wake(self, now: float) -> list[Settled]:
        """Repeat or give up what is due, and set :attr:`wake_at` anew."""
        settled: list[Settled] = []
        self.wake_at = math.inf
        if (timeout := self._options.request_timeout) is not None:
            for request in list(self.pending.values()):
                if request.key < 0 or request.kind is REJOIN:
                    continue
                if request.submitted + timeout > now:
                    self._wake_at(request.submitted + timeout)
                    break
                missing = "no answer" if request.tried else "not sent"
                settled.append(self._fail(request, "Timeout", f"{missing} within request_timeout ({timeout:g} s)"))
        overdue: list[Request] = []
        for request in self._unanswered.values():
            if request.due > now:
                self._wake_at(request.due)
                break
            overdue.append(request)
        full = self._in_flight >= _WINDOW
        for request in overdue:
            waits = full and request.queued and not request.in_flight  # for the answers of others
            if waits or (not request.superseded and self._use_repeat(request)):
                self.send(request, now)
            else:
                repeats = "" if self._left_to_service(request) else " and its repeats"
                missing = f"no answer came to the request{repeats}"
                if not request.tried:
                    missing = "it could not be sent: the connection takes nothing"
                settled.append(self._fail(request, "Timeout", missing))
        for request in list(self._backing_off.values()):
            if request.due > now:
                self._wake_at(request.due)
            else:
                del self._backing_off[request.key]
                self.send(request, now)
        return settled

    def _wake_at(self, due: float) -> None:
        if due < self.wake_at:
            self.wake_at = due

    def _left_to_service(self, request: Request) -> bool:
        """Whether it is an event that only the service may repeat while the connection lives."""
        return request.event and self._options.resend == "safe"

    def _use_repeat(self, request: Request) -> bool:
        """Use up one of its repeats; return whether there was one left."""
        request.failures += 1
        return self._options.retry.allows(request.failures)

    def _fail(self, request: Request, name: str, message: str) -> Settled:
        outcome: Outcome = "unknown" if request.tried else "unsent"
        return self._settle(request, SendError(request.key, name, message, outcome))

    def _settle(self, request: Request, error: SendError | None = None, duplicate: bool = False) -> Settled:
        if request.kind is JOIN or request.kind is LEAVE:
            self._membership_ends(request, executed=error is None, now=error is None and not duplicate)
        self._forget(request)
        return Settled(request, error, duplicate)

    def _membership_ends(self, request: Request, *, executed: bool, now: bool) -> None:
        if executed:
            for older in self._opposites_before(request):
                older.overtaken = True
        others = self._memberships[request.group]
        for later in others[others.index(request) + 1 :]:
            if later.kind is request.kind:
                later.undone &= not now
            elif later.handed and (now or request.kind is LEAVE):
                # This and a later opposite were repeated after a recovery. If the service failed to execute this the
                # first time, it may have executed it after the other one now; that is a duplicate then.
                later.undone |= later.transport < self._transport

    def _forget(self, request: Request) -> None:
        # The outbox may keep a forgotten request for as long as the transport takes nothing.
        request.payload = b""
        del self.pending[request.key]
        self._unanswered.pop(request.key, None)
        self._backing_off.pop(request.key, None)
        self._landed(request)
        if request.kind is REJOIN:
            self._rejoins -= 1
        elif request.own:
            self._own -= 1
        elif request.kind is JOIN or request.kind is LEAVE:
            self._memberships[request.group].remove(request)
            if not self._memberships[request.group]:
                del self._memberships[request.group]

    def _landed(self, request: Request) -> None:
        """Take a request out of what is in flight, or is to be sent."""
        if request.in_flight:
            request.in_flight = False
            self._in_flight -= 1
        elif request.queued:
            self._outbox_gaps += 1
            if self._outbox_gaps > 32 and 2 * self._outbox_gaps > len(self._outbox):
                self._outbox = [waiting for waiting in self._outbox if waiting.queued and waiting is not request]
                self._outbox_gaps = 0
        request.queued = False
