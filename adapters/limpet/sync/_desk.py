"""Where an application's threads leave what they want of a driver, and what the driver's thread does with that."""

from __future__ import annotations

import atexit
import os
import threading
import time
from _thread import get_ident, start_new_thread
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import cast
from weakref import finalize

from limpet import (
    ClientStopped,
    Connected,
    ConnectError,
    LocalProtocolError,
    Options,
    State,
    Stopped,
    TooManyRequests,
)
from limpet._clients.driver import BaseDriver
from limpet.sync._calls import Call
from limpet.sync._messages import MessageThreads
from limpet.sync._tcp import Bell, ByteTransport

_AHEAD = 64
"""Messages without an ack that the application may be ahead of the thread: to wait for it each time takes three times
as long as to send one."""


_LEAVE = 1.0
"""Seconds to wait at most for a thread that has nothing left to do."""


def no_start(error: BaseException) -> ConnectError:
    """What says why the client cannot start."""
    return ConnectError(f"the client cannot start: {error}")


RUNNING: set[Desk] = set()
"""Those that have a thread."""


@atexit.register
def _finish() -> None:
    for desk in RUNNING.copy():
        desk.finish()


def _close_all(bells: list[Bell]) -> None:
    while bells:
        bells.pop().close()


class Desk(BaseDriver[ByteTransport | MessageThreads]):
    """The half of a driver that the application's threads meet.

    Such a thread can be interrupted at any moment. It never holds :attr:`lock` and never touches the session, but
    leaves what it wants in a mailbox (``deque.append`` is one step for the interpreter) and waits for the answer.

    Attributes:
        lock: held by the driver's threads amid their work.
    """

    def __init__(self, options: Options | None) -> None:
        super().__init__(options, queue_callbacks=True)
        self.lock: threading.RLock = threading.RLock()
        self._mailbox: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._process = 0
        self._bell: Bell | None = None
        self._old_bells: list[Bell] = []
        self._left_bells: finalize[..., Desk] | None = None
        self._ringing: dict[int, None] = {}
        self._asleep = False
        self._flowing = False  # messages without an ack can go out
        self._senders: list[Call] = []
        self._promised: deque[tuple[bytes, bool]] = deque()
        self._told: list[Call] = []
        self._to_start: list[Call] = []

    # ---- For the application's threads

    def now(self) -> float:
        """The session's time."""
        return time.monotonic()

    @property
    def running(self) -> bool:
        """Whether its thread is there."""
        return self._thread is not None

    @property
    def _foreign(self) -> bool:
        """Whether this process has inherited the client, running, from its parent."""
        return self._thread is not None and self._process != os.getpid()

    def check_waiting(self) -> None:
        """Raise LocalProtocolError in a forked child, and in a thread that would wait for itself."""
        if self._foreign:
            raise LocalProtocolError(
                "the client's connection belongs to the parent process: make a new client in the forked child"
            )
        if self._inside():
            raise LocalProtocolError(
                "the client's own thread cannot wait for itself: something that it calls (a logging handler, a "
                "__del__) made a request that waits"
            )

    def _inside(self) -> bool:
        """Whether this is one of the driver's threads, amid its work."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def post(self, work: Callable[[], None]) -> None:
        """Have the thread do something soon, with the lock held, or when it starts."""
        self._mailbox.append(work)
        if self._asleep:
            self._ring()

    def perform(self, work: Callable[[], None]) -> None:
        """The same, and wait until that is done; where there is no thread, nothing is."""
        call = Call()
        self._submit(call, partial(self._perform, work))
        call.wait()

    def _submit(self, call: Call, work: Callable[[Call], None]) -> None:
        self.post(partial(self._do, call, work))
        if self._thread is None and call.claim():  # it has ended just now, and looks no more
            call.set_exception(ClientStopped("the client is stopped"))

    def ask(self, call: Call) -> None:
        """Have a request made whose answer is that of ``call``."""
        self.check_waiting()
        self.session.check_running()
        self._submit(call, self._ask)

    def tell(self, call: Call) -> bool:
        """Have a request made whose answer nobody wants; ``call`` has a result when it is on its way.

        Returns:
            False where that cannot be waited for, since this is the thread that does it.
        """
        inside = self._inside()
        if not inside:
            self.check_waiting()
        self.session.check_running()
        self._submit(call, self._tell)
        return not inside

    def tell_soon(self, message: bytes, publish: bool) -> bool:
        """Have a message sent that was prepared and wants no ack, if it can go out at once and others have had their
        turn; return whether that is so. From then on it is sent, whatever becomes of who has called.
        """
        if not self._flowing or len(self._mailbox) >= _AHEAD:
            return False
        self.post(partial(self._promise, message, publish))
        return True

    def start(self, begin: Callable[[], None]) -> Connected | Stopped:
        """Start the session; the result is the first Connected or Stopped. ``begin`` is called as soon as it starts.

        Where this is interrupted, the session is stopped again.
        """
        self.check_waiting()
        call = Call()
        try:
            self._to_start.append(call)
            try:
                # One step, while to start a Thread waits for a lock that who is interrupted leaves locked for ever.
                start_new_thread(self._boot, (call, begin))
            except RuntimeError as error:
                raise no_start(error) from error
            call.wait()
            return cast("Connected | Stopped", call.result())
        except BaseException:
            call.unwanted = True
            self.stop(call)
            raise

    def stop(self, start: Call | None = None) -> None:
        """Stop the session and wait until it has stopped, and its thread as well; once asked for, it happens.

        Args:
            start: only if it is this one that began it.
        """
        if start is None:
            for one in self._to_start.copy():
                one.unwanted = True  # it did not even begin
        thread = self._thread
        if thread is None or self._foreign:
            return
        call = Call()
        self._submit(call, partial(self._stop, start))
        if not self._inside():
            call.wait()
            with suppress(ClientStopped):  # it has ended by itself
                if call.result():
                    thread.join(_LEAVE)

    def finish(self) -> None:
        """The process ends: what was taken over is written, if that does not take long."""
        if self._thread is not None and not self._foreign:
            call = Call()
            self._submit(call, self._told.append)
            call.wait(_LEAVE)

    def _ring(self) -> None:
        """Wake the thread."""
        me = get_ident()
        self._ringing[me] = None  # before looking for the bell: it is not closed as long as somebody may hold it
        try:
            bell = self._bell
            if bell is not None:
                bell.ring()
        finally:
            self._ringing.pop(me, None)

    # ---- In the driver's thread (lock held)

    def _serve(self) -> None:
        for _ in range(len(self._mailbox)):
            self._mailbox.popleft()()

    def _do(self, call: Call, work: Callable[[Call], None]) -> None:
        if call.claim():
            try:
                work(call)
            except BaseException as error:  # noqa: BLE001 - whatever it is, who has called gets it
                call.set_exception(error)

    def _perform(self, work: Callable[[], None], call: Call) -> None:
        work()
        self._told.append(call)

    def _ask(self, call: Call) -> None:
        assert call.request is not None
        self._keep_promises()
        call.key = call.request(self.now(), user_data=call)

    def _tell(self, call: Call) -> None:
        room = self._keep_promises() and self.can_send(call.publish)
        if room or self.session.state is State.STOPPED:
            self._send(call)
        else:
            self.session.sender_waits(self.now())
            self._senders.append(call)

    def _send(self, call: Call) -> None:
        try:
            assert call.request is not None
            call.request(self.now(), ack=False)
        except BaseException as error:  # noqa: BLE001 - as above
            call.set_exception(error)
        else:
            self._told.append(call)

    def _promise(self, message: bytes, publish: bool) -> None:
        self._promised.append((message, publish))
        self._keep_promises()

    def _keep_promises(self) -> bool:
        """Send what was taken over, in order; return whether there was room for all of it."""
        while self._promised:
            message, publish = self._promised[0]
            try:
                self.session.send_prepared(message, self.now(), publish=publish)
            except TooManyRequests:
                return False  # it has its turn before whatever comes later
            except ClientStopped:
                pass  # somebody has stopped the client at the same time
            self._promised.popleft()
        return True

    def _go_on(self) -> None:
        """Those who wait to send something without an ack go on, as far as it can go out."""
        waiting = -1
        while self._promised and len(self._promised) != waiting:
            waiting = len(self._promised)
            self._keep_promises()
            self.drain()  # makes room, perhaps
        room = not self._promised
        for call in self._senders.copy():
            if room and self.can_send(call.publish):
                self._senders.remove(call)
                self.session.sender_goes_on()
                self._send(call)
                self.drain()
        room = room and not self._senders and self.can_send(True)
        self._flowing = room and self.session.state is State.CONNECTED
        self._tell_told()

    def _tell_told(self) -> None:
        """What was done for these threads is done, and what they send is written as far as the transport takes it."""
        told, self._told = self._told, []
        for call in told:
            call.set_result(None)

    def withdraw(self, call: Call) -> None:
        """Nobody waits for ``call`` any more."""
        if call in self._senders:
            self._senders.remove(call)
            self.session.sender_goes_on()
        elif call.key is not None and not call.done():
            call.unsent = self.session.withdraw(call.key)

    def _forget(self) -> None:
        """This is a forked child, and no thread is in it: what they have left behind is of no use."""
        self.lock = threading.RLock()
        self._asleep = self._flowing = False
        self._mailbox.clear()
        self._close_bells()

    def _put_away_bell(self) -> None:
        """Close the bell when nobody rings it any more.

        Who was interrupted at it may count as ringing until it does so again: that is for the next end then, or for
        that of the client.
        """
        if self._bell is not None:
            self._old_bells.append(self._bell)
            self._bell = None
        for _ in range(10):
            if not self._ringing:
                self._close_bells()
                return
            time.sleep(0.001)
        if self._left_bells is None:
            self._left_bells = finalize(self, _close_all, self._old_bells)

    def _close_bells(self) -> None:
        if self._bell is not None:
            self._old_bells.append(self._bell)
            self._bell = None
        _close_all(self._old_bells)

    # ---- The driver's

    def _boot(self, call: Call, begin: Callable[[], None]) -> None:
        """Have the thread, and the session started there; in a thread that nothing interrupts."""
        raise AssertionError("each driver has its own")

    def _stop(self, start: Call | None, call: Call) -> None:
        """Stop the session if ``start`` began it (None: in any case); ``call`` gets True when the thread has ended."""
        raise AssertionError("each driver has its own")
