"""Messages without an ack, and the calls that wait for room to send."""

from __future__ import annotations

from typing import Protocol

from limpet import ClientStopped, Session, State, TooManyRequests
from limpet.sync._calls import Call


class Home(Protocol):
    """The driver. It is asked itself: bound methods that are kept take 64 bytes each."""

    session: Session

    def now(self) -> float:
        """Return the session's time."""
        ...

    def can_send(self, publish: bool, /) -> bool:
        """Return whether a message, a publish or not, can be sent now."""
        ...

    def drain(self) -> None:
        """Do what the session wants done."""
        ...


class UnackedQueue:
    """Flow control of messages without an ack; for the driver's thread, lock held.

    A short message is accepted without a wait of its sender while there is room. Accepted messages are sent in order,
    before later messages, before a stop, and before the process ends. All other senders wait for room.

    Attributes:
        accepting: whether messages are accepted without a wait; may be read by any thread.
        accepted: messages that were accepted and not sent yet, and whether each is a publish.
        waiting: calls that wait for room.
    """

    __slots__ = ("_home", "_written", "accepted", "accepting", "waiting")

    def __init__(self, home: Home) -> None:
        self.accepting: bool = False
        self.accepted: list[tuple[bytes, bool]] = []  # short; a deque takes 0.7 KiB, even empty
        self.waiting: list[Call] = []
        self._home = home
        self._written: list[Call] | None = None

    def __bool__(self) -> bool:
        """Return whether messages or calls wait for room."""
        return bool(self.accepted or self.waiting)

    def accept(self, message: bytes, publish: bool) -> None:
        """Send a prepared message: now, or in front of all later messages."""
        self.accepted.append((message, publish))
        self.send_accepted()

    def send_accepted(self) -> bool:
        """Send accepted messages in order; return whether there was room for all of them."""
        while self.accepted:
            message, publish = self.accepted[0]
            try:
                self._home.session.send_prepared(message, self._home.now(), publish=publish)
            except TooManyRequests:
                return False
            except ClientStopped:
                pass  # another thread has stopped the client at the same time
            del self.accepted[0]
        return True

    def send(self, call: Call) -> None:
        """Make the request of ``call`` without an ack, as soon as there is room."""
        room = self.send_accepted() and self._home.can_send(call.publish)
        if room or self._home.session.state is State.STOPPED:
            self._send(call)
        else:
            self._home.session.sender_waits(self._home.now())
            self.waiting.append(call)

    def send_waiting(self) -> None:
        """Send accepted messages, then those of senders that wait, as far as there is room."""
        left = -1
        while self.accepted and len(self.accepted) != left:
            left = len(self.accepted)
            self.send_accepted()
            self._home.drain()  # may make room
        room = not self.accepted
        for call in self.waiting.copy():
            if room and self._home.can_send(call.publish):
                self.withdraw(call)
                self._send(call)
                self._home.drain()
        room = room and not self.waiting and self._home.can_send(True)
        self.accepting = room and self._home.session.state is State.CONNECTED
        self.complete_written()

    def withdraw(self, call: Call) -> None:
        """Take a call that waits for room out of the queue."""
        self.waiting.remove(call)
        self._home.session.sender_goes_on()

    def complete_when_written(self, call: Call) -> None:
        """Wake the thread of ``call`` after the transport was offered all messages of the session."""
        if self._written is None:
            self._written = []
        self._written.append(call)

    def complete_written(self) -> None:
        if self._written is not None:
            written, self._written = self._written, None
            for call in written:
                call.set_result(None)

    def close(self) -> None:
        """Send accepted messages; senders that wait get an error, since the session has stopped."""
        self.accepting = False
        self.send_accepted()
        for call in self.waiting.copy():
            self.withdraw(call)
            self._send(call)
        self.complete_written()

    def _send(self, call: Call) -> None:
        assert call.request is not None
        try:
            call.request(self._home.now(), ack=False)
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the call
            call.set_exception(error)
        else:
            self.complete_when_written(call)
