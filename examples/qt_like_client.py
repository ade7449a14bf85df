"""A client for an event loop like Qt's: socket notifiers and single-shot timers that call back, and Limpet's core.

With PyQt or PySide, put `QSocketNotifier` and `QTimer` in place of the classes of qt_like_loop.py. It joins a group,
publishes five messages to it, and stops when all have come back:

    python examples/qt_like_client.py URL
"""

from __future__ import annotations

import math
import os
import random
import selectors
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from qt_like_loop import EventLoop, Notifier, Timer

from limpet import Acked, Connected, Dial, Event, GroupMessage, Link, Options, Session, State, Stopped

now = time.monotonic


class Connection:
    """One TCP connection with its link. For brevity: no TLS, and the look-up of a name blocks."""

    def __init__(self, client: Client, dial: Dial) -> None:
        self.client, self.open, self.unsent = client, False, b""
        self.link = Link(client.session, dial, random_bytes=os.urandom)
        endpoint = self.link.endpoint
        family, kind, _, _, address = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)[0]
        self.sock = socket.socket(family, kind)
        self.sock.setblocking(False)
        self.reader = Notifier(client.loop, self.sock, selectors.EVENT_READ, self.receive)
        self.writer = Notifier(client.loop, self.sock, selectors.EVENT_WRITE, self.writable)
        self.sock.connect_ex(address)
        self.writer.set_enabled(True)  # it is writable when it is connected, or cannot be

    def writable(self) -> None:
        if not self.open and (error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self.link.failed(OSError(error, os.strerror(error)), now())
        self.open = True
        self.client.drain()

    def receive(self) -> None:
        try:
            self.link.receive_data(self.sock.recv(65536), now())  # b"": the peer will send no more
        except BlockingIOError:
            return
        except OSError as error:
            self.link.transport_lost(str(error), now())
        self.client.drain()

    def write(self) -> None:
        """Write the waiting data; take more from the link only when all of it is written."""
        if not self.open:
            return
        try:
            while data := self.unsent or b"".join(self.link.data_to_send()):
                self.unsent = data
                self.unsent = data[self.sock.send(data) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self.unsent = b""
            self.link.send_failed(error, now())
        self.writer.set_enabled(bool(self.unsent))

    def drop(self) -> None:
        """Send the close frame if the session asks for one, but wait for nobody."""
        self.write()
        self.reader.set_enabled(False)
        self.writer.set_enabled(False)
        self.sock.close()


class Client:
    """The driver of one session; all its methods are for the thread of its loop."""

    def __init__(
        self, loop: EventLoop, url: str | Callable[[], str], options: Options, handle: Callable[[Event], object]
    ) -> None:
        self.loop = loop
        self.session = Session(options, random=random.random)
        self.url, self.handle = url, handle
        self.dial: Dial | None = None
        self.connection: Connection | None = None
        self.timer: Timer | None = None
        self.draining = self.closed = False

    @property
    def state(self) -> State:
        return self.session.state

    def start(self) -> None:
        self.call(self.session.start)

    def stop(self) -> None:
        self.call(self.session.stop)

    def join_group(self, group: str) -> int:
        return self.call(self.session.join_group, group)

    def leave_group(self, group: str) -> int:
        return self.call(self.session.leave_group, group)

    def send_to_group(self, group: str, data: Any, *, ack: bool = True) -> int | None:
        return self.call(self.session.send_to_group, group, data, ack=ack)

    def send_event(self, event: str, data: Any, *, ack: bool = True) -> int | None:
        return self.call(self.session.send_event, event, data, ack=ack)

    def pause(self) -> None:
        self.call(self.session.reading_paused)

    def resume(self) -> None:
        self.call(self.session.reading_resumed)

    def close(self) -> None:
        """Drop everything now."""
        self.closed = True
        self.arm(math.inf)
        if self.connection is not None:
            self.connection.drop()
            self.connection = None

    def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call the session, then drain it."""
        result = method(*args, now(), **named)
        self.drain()
        return result

    def drain(self) -> None:
        """Do what the session wants done. A call by an event in the meantime leaves it to this one."""
        if self.draining or self.closed:
            return
        self.draining = True
        try:
            while True:
                if self.connection is not None:  # 1. data to send
                    self.connection.write()
                if self.session.dial is not self.dial:  # 2. the wanted transport
                    self.redial()
                events = self.session.events()  # 3. events
                for event in events:
                    if not self.closed:
                        self.handle(event)
                if self.closed:
                    return
                if not events and self.session.dial is self.dial:
                    break
        finally:
            self.draining = False
        if self.connection is not None:
            self.connection.reader.set_enabled(self.connection.open and self.session.reading)  # 4.
        self.arm(self.session.deadline)  # 5. the timer

    def redial(self) -> None:
        """Replace the connection by the one that the session wants, or by none."""
        if self.connection is not None:
            self.connection.drop()
            self.connection = None
        self.dial = dial = self.session.dial
        if dial is not None and dial.url is None:
            try:
                url = self.url() if callable(self.url) else self.url
            except Exception as error:  # noqa: BLE001 - told to the session
                self.session.url_failed(error, now())
            else:
                self.session.url_ready(url, now(), fixed=not callable(self.url))
        if dial is not None and dial.url is not None and dial.wanted:
            self.connection = Connection(self, dial)

    def arm(self, deadline: float) -> None:
        """Call the session at its deadline."""
        if self.timer is not None:
            self.timer.stop()
            self.timer = None
        if deadline != math.inf:
            self.timer = Timer(self.loop, max(0.0, deadline - now()), lambda: self.call(self.session.wake))


def main(url: str) -> None:
    loop = EventLoop()
    unanswered: set[int | None] = set()
    heard: list[object] = []

    def handle(event: Event) -> None:
        if isinstance(event, Connected):
            unanswered.add(client.join_group("group1"))
            unanswered.update(client.send_to_group("group1", f"message {number}") for number in range(5))
        elif isinstance(event, GroupMessage):
            print(event.data)
            heard.append(event.data)
        elif isinstance(event, Acked):
            unanswered.discard(event.ack_id)
        elif isinstance(event, Stopped):
            if event.error is not None:
                print(f"-- stopped: {event.error}", file=sys.stderr)
            loop.quit()
        if len(heard) == 5 and not unanswered:
            client.stop()

    client = Client(loop, url, Options(), handle)
    client.start()
    loop.exec()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
