"""Requests from the call to the answer: ack ids, order, repeats, and the outcome when a request fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from limpet_core.client.allowance import Allowance
from limpet_core.client.deadlines import NO_DEADLINES, Deadlines
from limpet_core.client.events import Acked, Event, RejoinGroupFailed
from limpet_core.client.group_states import NO_GROUP_STATES, GroupStates
from limpet_core.client.groups import Groups
from limpet_core.client.log_lines import LogLines
from limpet_core.client.options import Options
from limpet_core.client.outbox import Outbox
from limpet_core.client.pacing import Pacing
from limpet_core.client.request import (
    HANDED,
    IN_FLIGHT,
    JOIN,
    LEAVE,
    NEW_PUBLISH,
    NOT_HANDLED,
    PUBLISH,
    QUEUED,
    REJOIN,
    RENEW,
    RENEWALS,
    RESTORE,
    SENT_PUBLISH,
    Kind,
    Request,
    TrackedRequest,
    new_request,
)
from limpet_core.errors import (
    InvalidValue,
    LimpetError,
    LocalProtocolError,
    Outcome,
    SendError,
    SendTimeout,
    TooManyRequests,
)
from limpet_core.nothing import NOTHING
from limpet_core.protocol.codec import Codec
from limpet_core.protocol.messages import AckMessage, ErrorDetail, StatesMessage
from limpet_core.protocol.rules import check_ack_id
from limpet_core.redaction import Secrets
from limpet_core.text import without_secrets

_OWN_KEYS: Final = 1 << 52
"""The first ack id of the session's own requests. Callers choose none so large, and all are below the limit of the
integers that a float holds exactly, should a peer or proxy read numbers as floats.
"""

_MAY_PASS: Final = frozenset({"InternalServerError", "Timeout"})
"""Errors after which a repeat may succeed."""

_FORMER: Final = 16
"""Own former connections that are remembered: the service forgets them within its recovery window."""


class Requests:
    """All requests that are not settled, in the order in which they were made.

    Attributes:
        allowance: the limit on what waits.
        answered: the number of answers of the service, final ones and those that lead to a repeat.
        group_states: what is known of the states of groups.
        pending: every unsettled request by its key, in the order of the calls.
        wake_at: the time of the next :meth:`wake`, in seconds; may be early, never late.
    """

    __slots__ = (
        "_ack_timeout",
        "_backing_off",
        "_codec",
        "_connection_id",
        "_deadlines",
        "_events",
        "_former",
        "_groups",
        "_limited",
        "_log",
        "_next_key",
        "_options",
        "_outbox",
        "_own",
        "_own_key",
        "_pacing",
        "_quick",
        "_random",
        "_ready",
        "_secrets",
        "_unanswered",
        "_untracked",
        "allowance",
        "answered",
        "group_states",
        "pending",
        "wake_at",
    )

    def __init__(
        self,
        options: Options,
        random: Callable[[], float],
        codec: Codec,
        secrets: Secrets,
        groups: Groups,
        pacing: Pacing,
        outbox: Outbox,
        allowance: Allowance,
        events: list[Event],
        lines: LogLines,
    ) -> None:
        self._options = options
        self._ack_timeout = math.inf if options.ack_timeout is None else options.ack_timeout
        self._random = random
        self._codec = codec
        self._secrets = secrets
        self._groups = groups
        self.group_states: GroupStates = NO_GROUP_STATES
        self._connection_id = ""  # of the connection, or of the last one
        self._former: tuple[str, ...] = ()  # ids of own connections before that
        self._pacing = pacing
        self.allowance: Allowance = allowance
        self._events = events
        self._log = lines
        self._outbox = outbox
        self._ready = False  # requests can be handed to a transport
        self._quick = False  # and a publish needs no more than publish() does
        self._next_key = 1
        self._own_key = _OWN_KEYS
        self._own = 0  # how many are the session's own, renewals included
        self._untracked = 0
        self.pending: dict[int, Request] = NOTHING  # made with the first request, as _unanswered is
        self._deadlines: Deadlines[int, Request] = NO_DEADLINES  # of those with a timeout of their own
        # A request waits for its answer or for its backoff, or for a connection (then it is in neither of these).
        # The first is ordered by `due`, since all requests wait equally long: a queue and an index in one.
        self._unanswered: dict[int, Request] = NOTHING
        self._backing_off: dict[int, Request] = NOTHING
        # Those that may take as long as request_timeout, in the order of the calls and so of their ends.
        self._limited: dict[int, Request] = NOTHING
        self.answered: int = 0
        self.wake_at: float = math.inf

    # ---- New requests

    def reserve(self, ack_id: int | None, ack: bool, own: bool) -> int:
        """Return the key for a new request: the caller's ack id if that can be used, else a fresh one.

        Raises:
            TooManyRequests, LocalProtocolError: nothing has changed then.
        """
        if len(self.pending) - self._own >= self.allowance.requests:
            self.check_room()
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

    def check_room(self) -> None:
        """Raise TooManyRequests if no more requests may wait, other things that wait included."""
        waiting = len(self.pending) - self._own
        if waiting >= self.allowance.requests:
            raise TooManyRequests(
                f"{waiting + self.allowance.taken} requests wait for the service already (max_pending_requests); "
                "wait for some of them before making more"
            )

    def publish(
        self,
        group: str,
        data: Any,
        data_type: str | None,
        no_echo: bool,
        ttl_seconds: int | None,
        metadata: Mapping[str, str] | None,
        user_data: Any,
        now: float,
    ) -> int:
        """Take in a publish with a fresh ack id and without a timeout of its own; return the ack id.

        The same as :meth:`reserve`, the codec's ``encode_send`` and :meth:`submit`, in fewer steps.

        Raises:
            TooManyRequests, InvalidType, InvalidValue: nothing has changed then.
        """
        pending = self.pending
        if len(pending) - self._own >= self.allowance.requests:
            self.check_room()
        key = self._next_key
        payload = self._codec.encode_send(
            group, data, data_type, no_echo, key, self._options.max_request_size, ttl_seconds, metadata
        )
        if not self._quick:
            self.submit(new_request(key, PUBLISH, payload, user_data, now), now)
            return key
        self._next_key = key + 1
        due = now + self._ack_timeout
        pending[key] = request = (Request if user_data is None else TrackedRequest)(
            key, PUBLISH, payload, user_data, now, due, NEW_PUBLISH
        )
        self._outbox.queue.append(request)
        self._unanswered[key] = request
        if due < self.wake_at:
            self.wake_at = due
        return key

    def submit(self, request: Request, now: float) -> None:
        """Take a new request in; send it at once if a connection is established, else as soon as one is."""
        key, kind = request.key, request.kind
        if kind is LEAVE and self._forget_rejoin(request.group):
            self._groups.rejoin_unless_left(request.group)
            self._wake_for_states(request, now)
        if request.own:
            self._own_key = key + 1
            self._own += 1
        elif key >= self._next_key:
            # A fresh ack id must never repeat one of the caller's: the service would answer Duplicate and not
            # execute the request.
            self._next_key = key + 1
        elif key < 0:
            self._untracked = key
        if self.pending is NOTHING:
            self.pending, self._unanswered = {}, {}
            self._set_ready(self._ready)
        self.pending[key] = request
        if request.timeout is not None:
            if self._deadlines is NO_DEADLINES:
                self._deadlines = Deadlines(self.pending)
            self._deadlines.add(key, request, request.submitted + request.timeout)
            self._wake_by(request.submitted + request.timeout)
        elif self._options.request_timeout is not None and key > 0:
            if self._limited is NOTHING:
                self._limited = {}
            self._limited[key] = request
            self._wake_by(request.submitted + self._options.request_timeout)
        if kind is PUBLISH:
            if self._ready:  # what _send() does with the first copy of a request that nothing holds, in fewer steps
                request.flags |= QUEUED
                self._outbox.queue.append(request)
                if key > 0:
                    self._await_answer(request, now)
            return
        if kind is JOIN or kind is LEAVE:
            for older in self._groups.add(request):
                if older.key in self._backing_off:
                    text = "the service failed, and a later request for the same group came before the repeat"
                    self._settle(older, SendError(older.key, "Superseded", text, "rejected"))
                    self._wake_for_rejoin(older, now)
        else:
            self._add_states(request)
        if self._ready:
            self._send(request, now)

    def _add_states(self, request: Request) -> None:
        """Add a request that is about states; the first one makes room for what is known of these."""
        if self.group_states is NO_GROUP_STATES:
            self.group_states = GroupStates(self._secrets, self._events, self._log)
            for other in self.pending.values():
                if other.kind is REJOIN:
                    self.group_states.rejoins(other.group)
        self.group_states.add(request)

    def _rejoin(self, group: str, now: float) -> None:
        if self.group_states is not NO_GROUP_STATES:
            self.group_states.rejoins(group)
        self._ask(REJOIN, group, self._codec.encode_join(group, self._own_key), now)

    def _renew_states(self, now: float) -> None:
        """Set own states again, and ask for fresh snapshots, where that is wished for and nothing is in the way."""
        blocked = self._groups.is_unsettled
        for group, state in self.group_states.take_restores(blocked):
            self._ask(RESTORE, group, self._codec.encode_set_group_state(group, state, self._own_key), now)
        for group in self.group_states.take_renewals(blocked):
            self._ask(RENEW, group, self._codec.encode_subscribe_group_state(group, self._own_key), now)

    def _ask(self, kind: Kind, group: str, payload: bytes, now: float) -> None:
        """Make a request of the session's own; ``payload`` has the ack id ``_own_key``."""
        key = self._own_key
        request = Request(key, kind, payload, None, now, group=group, own=True)
        self._own_key += 1
        self._own += 1
        self.pending[key] = request
        if kind is not REJOIN:
            self._add_states(request)
        if self._ready:
            self._send(request, now)

    def _forget_rejoin(self, group: str) -> bool:
        """Forget the rejoins of ``group``, whose repeats must not come after a leave; return whether there were any."""
        if not self._own:
            return False
        rejoins = [other for other in self.pending.values() if other.kind is REJOIN and other.group == group]
        for rejoin in rejoins:
            self._forget(rejoin)
        return bool(rejoins)

    def withdraw(self, key: int, user_data: Any) -> bool:
        """Take a request back that was never handed to a transport; return False where that is not possible."""
        request = self.pending.get(key)
        if request is None or request.tried or not (user_data is ... or user_data is request.user_data):
            return False
        if request.kind is JOIN or request.kind is LEAVE:
            self._groups.withdraw(request)
            self._wake_for_rejoin(request, request.submitted)  # a time that has passed: at once
        self._forget(request)
        if request.group:
            self.group_states.withdraw(request)
            self._wake_for_states(request, request.submitted)
        return True

    # ---- On the way to the transport

    def _send(self, request: Request, now: float) -> None:
        """Queue a request for the open transport, for the first time or again, unless it has to wait for another."""
        if request.group and self.group_states.holds(request):
            if not (request.queued or request.in_flight):
                return
            # It was sent before the other request was made: no repeat now, but the next one is due as any other.
        # A slow handler that fails in the end would be called once more by a repeat.
        elif not (request.in_flight and self._left_to_service(request)):
            self._outbox.put(request)
        if request.key > 0:
            self._unanswered.pop(request.key, None)
            self._await_answer(request, now)

    def _await_answer(self, request: Request, now: float) -> None:
        """Wait for the answer until ``ack_timeout``, as the last of the requests that do."""
        request.due = due = now + self._ack_timeout
        self._unanswered[request.key] = request
        if due < self.wake_at:
            self.wake_at = due

    def take(self) -> list[bytes]:
        """Return the payloads to send now; from here on they count as handed to the transport."""
        payloads, untracked = self._outbox.take()
        for request in untracked:
            self._forget(request)
        return payloads

    # ---- Connections and transports

    def _set_ready(self, ready: bool) -> None:
        self._ready = ready
        self._quick = ready and self.pending is not NOTHING and self._options.request_timeout is None

    def connected(self, connection_id: str, now: float) -> None:
        """Send all requests in order on a new connection, behind the rejoins of groups."""
        if not self._options.auto_rejoin_groups:
            for group in self._groups.joined:
                self.group_states.forget_own(group)
            self._groups.leave_all()
        self._set_ready(True)
        for group in self._groups.all_to_rejoin():
            self._rejoin(group, now)
        self._connection_id = connection_id
        self._former = tuple(each for each in self._former if each != connection_id)  # no id comes again, but may
        self.group_states.connected(restore=self._options.auto_restore_group_states)
        self._send_all(now)

    def recovered(self, now: float) -> None:
        """Send all requests in order: the connection has a transport again."""
        self._set_ready(True)
        self.group_states.recovered()
        self._send_all(now)

    def _send_all(self, now: float) -> None:
        for request in self.pending.values():
            self._send(request, now)
        self._renew_states(now)

    def transport_lost(self) -> None:
        """Note that the transport is lost: requests in flight wait for the next one."""
        self._set_ready(False)
        for request in self.pending.values():
            # The lost answer may have been that its handler failed.
            request.doubtful |= request.event and request.in_flight
        self._outbox.transport_lost(self.pending.values())
        for request in [request for request in self.pending.values() if request.kind is RENEW]:
            self._forget(request)  # under the same ack id it might bring no other snapshot
        self._groups.transport_lost()
        self.group_states.transport_lost()
        if self._unanswered:
            self._unanswered.clear()
        self._backing_off = NOTHING

    def connection_lost(self) -> None:
        """Settle the requests that cannot be repeated safely, since the connection id is gone; the rest waits.

        All others are asked again; a publish that was handed to a transport may have been executed. The transport was
        lost before.
        """
        for request in list(self.pending.values()):
            if request.kind in RENEWALS:
                self._forget(request)
            elif request.overtaken or (request.kind is PUBLISH and request.handed and self._options.resend == "safe"):
                self._fail(request, "ConnectionLost", "the connection was lost before the answer came")
            else:
                request.doubtful |= request.kind is PUBLISH and request.handed
                request.handed_before |= request.handed
                request.handed = request.carried = False
                request.failures = 0
        self._groups.connection_lost()
        self._former = (*self._former, self._connection_id)[-_FORMER:]
        self.group_states.connection_lost(self._connection_id)

    def stop(self, error: LimpetError | None) -> None:
        """Fail all requests that wait for an answer: the session stops, because of ``error`` or (None) by ``stop()``.

        Requests without an ack that are queued for an open transport stay queued: they can still be sent.
        """
        self.group_states.stop()
        for request in list(self.pending.values()):
            if request.kind in RENEWALS:
                self._forget(request)
            elif request.key > 0 and not request.own:
                early = "the answer came" if request.tried else "the request was sent"
                why = f"the client was stopped before {early}" if error is None else f"the client has stopped: {error}"
                self._fail(request, "Stopped", why)
            elif not request.queued:
                self._forget(request)
        self._pacing.reset()  # a sender that waits for it must not wait any longer

    def clear(self) -> None:
        """Forget all groups: the session has stopped, and no request is left."""
        self._groups.clear()
        self.group_states.clear()
        self._former = ()
        self.wake_at = math.inf

    # ---- Answers

    def states_received(self, message: StatesMessage, now: float) -> None:
        """Take in what the service says of the states of a group."""
        self.group_states.receive(message, now, self._former)

    def acked_at_once(self, ack_ids: list[int], now: float) -> None:
        """Do what :meth:`acked` does for each of many acks of success, in fewer steps where that is an ordinary one."""
        pending, unanswered, append = self.pending, self._unanswered, self._events.append
        plain = not self._limited
        settled = 0
        for key in ack_ids:
            request = pending.get(key)
            if request is not None and request.flags == SENT_PUBLISH and plain:
                del pending[key]
                unanswered.pop(key, None)
                settled += 1
                append(Acked(key, request.user_data))
            else:
                self.acked(AckMessage(key, True), now)
        self.answered += settled
        self._outbox.in_flight -= settled

    def acked(self, ack: AckMessage, now: float) -> None:
        """Settle the request that the service has answered, or repeat it later. Answers to no request do nothing."""
        request = self.pending.get(ack.ack_id)
        if request is None or not request.flags & HANDED:
            return
        self.answered += 1
        if ack.success:
            if request.kind is PUBLISH and not request.own:  # the ordinary case, in a few steps
                self._forget(request)
                self._events.append(Acked(request.key, request.user_data))
                return
            self._settle(request)
        else:
            self._refused(request, ack.error or ErrorDetail(), now)
            self._wake_for_rejoin(request, now)
        if request.group:
            self._wake_for_states(request, now)

    def _refused(self, request: Request, error: ErrorDetail, now: float) -> None:
        """Settle or repeat a request that the service answered with an error."""
        name, message = error.name, error.message
        if name == "Duplicate":  # executed before: client-spec 3.1.2
            if request.undone and request.kind is LEAVE:
                text = "an earlier request to join was executed after it, when both were repeated; leave once more"
                self._settle(request, SendError(request.key, "Superseded", text, "rejected"))
            else:
                self._settle(request, duplicate=True)
            return
        may_pass = name in _MAY_PASS
        if request.kind is PUBLISH and (name not in NOT_HANDLED if request.event else may_pass):
            request.doubtful = True
        repeatable = may_pass and not request.superseded and not self._left_to_service(request)
        if repeatable and self._use_repeat(request):
            self._unanswered.pop(request.key, None)
            self._outbox.remove(request)
            if self._backing_off is NOTHING:
                self._backing_off = {}
            self._backing_off[request.key] = request
            request.due = now + self._options.retry.delay(request.failures, self._random)
            self._wake_by(request.due)
            return
        outcome: Outcome = "unknown" if request.doubtful or (may_pass and request.copies) else "rejected"
        name, message = without_secrets(name, secrets=self._secrets), without_secrets(message, secrets=self._secrets)
        self._settle(request, SendError(request.key, name, message or "the service gave no reason", outcome))

    def _left_to_service(self, request: Request) -> bool:
        """Whether the request is an event that only the service may repeat while the connection lives."""
        return request.event and self._options.resend == "safe"

    def _use_repeat(self, request: Request) -> bool:
        """Use up one of the request's repeats; return whether there was one left."""
        request.failures += 1
        return self._options.retry.allows(request.failures)

    def _fail(self, request: Request, name: str, message: str) -> None:
        outcome: Outcome = "unknown" if request.tried else "unsent"
        self._settle(request, SendError(request.key, name, message, outcome))

    def _run_out(self, request: Request, message: str) -> None:
        """Fail a request whose time is over."""
        outcome: Outcome = "unknown" if request.tried else "unsent"
        self._settle(request, SendTimeout(request.key, "Timeout", message, outcome))

    def _settle(self, request: Request, error: SendError | None = None, duplicate: bool = False) -> None:
        """End a request; without an error it was executed."""
        self._forget(request)
        kind = request.kind
        if kind is PUBLISH:
            if request.own:
                self._pacing.answered()
                return
        elif kind is REJOIN:
            if error is not None:
                if error.outcome == "rejected":  # an answer that never came changes nothing
                    self._groups.rejoin_refused(request.group)
                self._events.append(RejoinGroupFailed(request.group, error))
            return
        elif kind is JOIN or kind is LEAVE:
            self._groups.settle(request, error, duplicate)
            if kind is LEAVE and error is None:
                self.group_states.left(request.group)
        else:
            self.group_states.settle(request, error, duplicate)
            if request.own:
                return
        self._events.append(Acked(request.key, request.user_data, duplicate, error))

    def _forget(self, request: Request) -> None:
        key = request.key
        del self.pending[key]
        if request.number:
            self._deadlines.tidy()
        self._unanswered.pop(key, None)
        if self._backing_off:
            self._backing_off.pop(key, None)
        if self._limited:
            self._limited.pop(key, None)
        if request.flags & QUEUED:
            request.payload = b""  # the outbox may keep the request for as long as the transport takes nothing
            self._outbox.remove(request)
        elif request.flags & IN_FLIGHT:  # what remove() does, without the call: so ends nearly every request
            self._outbox.in_flight -= 1
        if request.own:
            self._own -= 1
        if request.group:
            if request.kind is REJOIN and self.group_states is not NO_GROUP_STATES:
                self.group_states.rejoin_ended(request.group)
            self.group_states.remove(request)

    # ---- Time

    def wake(self, now: float) -> None:
        """Repeat or fail the requests that are due, and set :attr:`wake_at` anew."""
        self.wake_at = math.inf
        self._expire(now)
        self._repeat_unanswered(now)
        self._repeat_failed(now)
        for group in self._groups.take_rejoins():
            self._rejoin(group, now)
        if self._ready:
            for request in self.group_states.next_requests():
                if not (request.queued or request.in_flight or request.key in self._backing_off):
                    self._send(request, now)
            self._renew_states(now)

    def _expire(self, now: float) -> None:
        """Fail the requests that are older than their ``timeout`` or, without one, than ``request_timeout``."""
        for request in self._deadlines.take(now):
            missing = "no answer came" if request.tried else "it could not be sent"
            self._run_out(request, f"{missing} within timeout ({request.timeout:g} s)")
        self._wake_by(self._deadlines.next)
        timeout = self._options.request_timeout
        if timeout is None:
            return
        overdue: list[Request] = []
        for request in self._limited.values():
            if request.submitted + timeout > now:
                self._wake_by(request.submitted + timeout)
                break
            overdue.append(request)
        for request in overdue:
            missing = "no answer" if request.tried else "not sent"
            self._run_out(request, f"{missing} within request_timeout ({timeout:g} s)")

    def _repeat_unanswered(self, now: float) -> None:
        """Repeat or fail the requests whose answer has not come within ``ack_timeout``."""
        overdue: list[Request] = []
        for request in self._unanswered.values():
            if request.due > now:
                self._wake_by(request.due)
                break
            overdue.append(request)
        full = self._outbox.full
        for request in overdue:
            held_up = full and request.queued and not request.in_flight  # by the window: no fault of its own
            if held_up or (not request.superseded and self._use_repeat(request)):
                self._send(request, now)
                continue
            missing = f"no answer came to the request{'' if self._left_to_service(request) else ' and its repeats'}"
            if not request.tried:
                missing = "it could not be sent: the connection takes nothing"
            self._run_out(request, missing)

    def _repeat_failed(self, now: float) -> None:
        """Repeat the requests whose backoff after an error is over."""
        for request in list(self._backing_off.values()):
            if request.due > now:
                self._wake_by(request.due)
            else:
                del self._backing_off[request.key]
                self._send(request, now)

    def _wake_for_rejoin(self, request: Request, now: float) -> None:
        if self._groups.has_rejoin(request.group):
            self._wake_by(now)

    def _wake_for_states(self, request: Request, now: float) -> None:
        if self.group_states.waits(request.group):
            self._wake_by(now)

    def _wake_by(self, due: float) -> None:
        if due < self.wake_at:
            self.wake_at = due
