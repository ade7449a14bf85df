"""Invocations: calls of event handlers for their replies, each sent once at most."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final

import msgspec

from limpet_core.client.allowance import Allowance
from limpet_core.client.deadlines import Deadlines
from limpet_core.client.events import Event, Invoked, Reply
from limpet_core.client.options import Options
from limpet_core.client.request import NOT_HANDLED
from limpet_core.client.timers import Timer
from limpet_core.errors import InvocationError, InvocationTimeout, LimpetError, LocalProtocolError, Outcome
from limpet_core.protocol.codec import Codec, codec_for
from limpet_core.protocol.messages import ErrorDetail, InvokeResponseMessage
from limpet_core.protocol.rules import check_invocation_id
from limpet_core.redaction import Secrets
from limpet_core.text import without_secrets

_LONGEST_NUMBER: Final = 15
"""Digits of a caller's id that is a number for the counter, too."""


class Invocation(msgspec.Struct, eq=False):
    """An invocation that is not settled yet.

    Attributes:
        key: the invocation id.
        payload: the encoded message; empty once it was handed to a transport: it is never sent again.
        user_data: comes back with :class:`Invoked`.
        limit: the name and the seconds of its timeout, for people.
        number: see :class:`Deadlines`.
        handed: whether the invocation was handed to a transport, which is the open one.
    """

    key: str
    payload: bytes
    user_data: Any
    limit: str = ""
    number: int = 0
    handed: bool = False


class Invocations:
    """All invocations that are not settled, in the order of the calls.

    An invocation is at most once on its way: an event handler may have done its work, and the service keeps no ids by
    which it could tell a repeat (js). So the end of its transport settles what was handed to it.

    Attributes:
        pending: every unsettled invocation by its id.
        unsent: those of them that were never handed to a transport.
        sending: whether there may be something for :meth:`take`.
        wake_at: the time of the next :meth:`wake`, in seconds; may be early, never late.
    """

    timer: ClassVar[Timer] = Timer.INVOCATIONS

    __slots__ = (
        "_allowance",
        "_cancellations",
        "_codec",
        "_deadlines",
        "_events",
        "_next_id",
        "_ready",
        "_request_timeout",
        "_secrets",
        "pending",
        "sending",
        "unsent",
        "wake_at",
    )

    def __init__(
        self,
        codec: Codec,
        secrets: Secrets,
        allowance: Allowance,
        events: list[Event],
        request_timeout: float | None = None,
    ) -> None:
        self._request_timeout = request_timeout  # of invocations without a timeout of their own
        self._codec = codec
        self._secrets = secrets
        self._allowance = allowance
        self._events = events
        self._ready = False
        self._next_id = 1
        self._cancellations: list[bytes] = []  # messages to send
        self.pending: dict[str, Invocation] = {}
        self._deadlines = Deadlines(self.pending)
        self.unsent: dict[str, Invocation] = {}
        self.sending: bool = False
        self.wake_at: float = math.inf

    @property
    def waits(self) -> bool:
        """Whether a reply is awaited."""
        return bool(self.pending)

    # ---- Calls of the application

    def reserve(self, invocation_id: str | None) -> str:
        """Return the id for a new invocation: the caller's if that can be used, else a fresh one.

        Raises:
            InvalidType, InvalidValue, LocalProtocolError: nothing has changed then.
        """
        if invocation_id is None:
            return str(self._next_id)
        check_invocation_id(invocation_id)
        if invocation_id in self.pending:
            raise LocalProtocolError(
                f"invocation_id {invocation_id!r} belongs to an invocation that still waits for its reply"
            )
        return invocation_id

    def submit(self, key: str, payload: bytes, user_data: Any, timeout: float | None, now: float) -> None:
        """Take a new invocation in; it is sent when a connection is established."""
        if len(key) <= _LONGEST_NUMBER and key.isascii() and key.isdecimal():
            # A fresh id must never repeat one of the caller's: a late answer to that would be taken for its own.
            self._next_id = max(self._next_id, int(key) + 1)
        self.pending[key] = self.unsent[key] = invocation = Invocation(key, payload, user_data)
        self.sending = True
        self._allowance.take()
        name = "timeout"
        if timeout is None:
            timeout, name = self._request_timeout, "request_timeout"
        if timeout is not None:
            due = now + timeout
            invocation.limit = f"{name} ({timeout:g} s)"
            self._deadlines.add(key, invocation, due)
            self.wake_at = min(self.wake_at, due)

    def cancel(self, key: str, user_data: Any) -> Outcome | None:
        """Give up an invocation, without an :class:`Invoked`.

        Args:
            user_data: that of the invocation; ``...``: whichever it has.

        Returns:
            ``unsent`` or ``unknown``, as in an :class:`InvocationError`; None: it is settled, or there was none.

        Raises:
            InvalidType, InvalidValue: the id can be none.
        """
        check_invocation_id(key)
        invocation = self.pending.get(key)
        if invocation is None or not (user_data is ... or user_data is invocation.user_data):
            return None
        return self._give_up(invocation)

    def _give_up(self, invocation: Invocation) -> Outcome:
        self._forget(invocation)
        if not invocation.handed:
            return "unsent"
        self._cancellations.append(self._codec.encode_cancel_invocation(invocation.key))
        self.sending = True
        return "unknown"

    # ---- On the way to the transport

    @property
    def to_send(self) -> int:
        """How many messages wait to be sent; those of invocations also while there is no transport."""
        return len(self._cancellations) + len(self.unsent)

    def take(self) -> list[bytes]:
        """Return the messages to send now; from here on they count as handed to the transport."""
        if not self._ready:
            return []
        messages = self._cancellations  # first: an id that was given up may be in use again
        self._cancellations, self.sending = [], False
        for invocation in self.unsent.values():
            messages.append(invocation.payload)
            invocation.payload, invocation.handed = b"", True
        self.unsent.clear()
        return messages

    # ---- Connections and transports

    def connected(self, now: float) -> None:
        """Send what waits."""
        self._ready = True

    def recovered(self, now: float) -> None:
        """Send what waits; what was handed to the transport before is settled."""
        self._ready = True

    def transport_lost(self) -> None:
        """Settle what was handed to the transport: its reply was for that transport alone."""
        self._ready = False
        self._cancellations.clear()
        for invocation in list(self.pending.values()):
            if invocation.handed:
                self._fail(invocation, "ConnectionLost", "the connection was dropped before the reply came")

    def connection_lost(self) -> None:
        """Do nothing: what was never sent waits for the next connection."""

    def stop(self, error: LimpetError | None) -> None:
        """Settle all: the session stops, because of ``error`` or (None) by ``stop()``."""
        for invocation in list(self.pending.values()):
            early = "the reply came" if invocation.handed else "the invocation was sent"
            why = f"the client was stopped before {early}" if error is None else f"the client has stopped: {error}"
            self._fail(invocation, "Stopped", why)

    # ---- Answers

    def replied(self, message: InvokeResponseMessage) -> bool:
        """Settle the invocation that the service has answered; return whether there is one: an answer may be late."""
        invocation = self.pending.get(message.invocation_id)
        if invocation is None or not invocation.handed:
            return False
        if message.success:
            self._settle(invocation, Reply(message.data, message.data_type), None)
            return True
        error = message.error or ErrorDetail()
        # With any other name an event handler may have done its work, and failed or taken too long after that.
        outcome: Outcome = "rejected" if error.name in NOT_HANDLED else "unknown"
        name = without_secrets(error.name, secrets=self._secrets)
        text = without_secrets(error.message, secrets=self._secrets) or "the service gave no reason"
        self._settle(invocation, None, InvocationError(name, text, outcome))
        return True

    def _fail(self, invocation: Invocation, name: str, text: str) -> None:
        self._settle(invocation, None, InvocationError(name, text, "unknown" if invocation.handed else "unsent"))

    def _settle(self, invocation: Invocation, reply: Reply | None, error: InvocationError | None) -> None:
        self._forget(invocation)
        self._events.append(Invoked(invocation.key, invocation.user_data, reply, error))

    def _forget(self, invocation: Invocation) -> None:
        del self.pending[invocation.key]
        self.unsent.pop(invocation.key, None)
        self._allowance.give_back()
        self._deadlines.tidy()

    # ---- Time

    def wake(self, now: float) -> None:
        """Settle the invocations whose time is over, cancel those that were sent, and set :attr:`wake_at` anew."""
        for invocation in self._deadlines.take(now):
            outcome = self._give_up(invocation)
            missing = "no reply came" if invocation.handed else "it could not be sent"
            error = InvocationTimeout("Timeout", f"{missing} within {invocation.limit}", outcome)
            self._events.append(Invoked(invocation.key, invocation.user_data, None, error))
        self.wake_at = self._deadlines.next


NO_INVOCATIONS: Final = Invocations(codec_for(Options().protocol), Secrets(), Allowance(0), [])
"""In place of those of a session that has not made one so far. All sessions share it: never call
:meth:`Invocations.submit`, and all else leaves it as it is.
"""
