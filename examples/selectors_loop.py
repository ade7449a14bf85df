"""A Web PubSub client from nothing: sockets, `selectors`, and Limpet's core. No threads, no asyncio.

It joins a group, publishes ten messages to it, and cuts its own connection in the middle. Nothing is lost:

    python examples/selectors_loop.py URL

docs/howto/write-an-adapter.md explains it step by step.
"""

from __future__ import annotations

import math
import os
import random
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Callable

from limpet import Acked, Connected, Dial, Event, GroupMessage, Link, Recovered, Recovering, Session, State, Stopped

RECORD = 16 * 1024  # no TLS record is larger: a bigger buffer would be a waste
now = time.monotonic


class Connection:
    """One TCP connection with a Link. It knows neither the loop nor other connections."""

    def __init__(self, session: Session, dial: Dial) -> None:
        self.link = Link(session, dial, random_bytes=os.urandom)
        self.unsent = b""
        # For brevity, the name look-up, the TCP connect and the TLS handshake block, for a few seconds at most.
        endpoint = self.link.endpoint
        self.sock = socket.create_connection((endpoint.host, endpoint.port), timeout=10)
        if endpoint.secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=endpoint.host)
        self.sock.setblocking(False)

    def receive(self) -> None:
        """Read the socket, which is ready."""
        try:
            data = self.sock.recv(RECORD)
            while isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
                data += self.sock.recv(RECORD)  # the selector does not see decrypted data
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self.link.transport_lost(str(error), now())
        else:
            self.link.receive_data(data, now())  # b"": the peer will send no more

    def send(self) -> None:
        """Write the waiting data; take more from the link only when all of it is written."""
        try:
            while data := self.unsent or b"".join(self.link.data_to_send()):
                self.unsent = data
                self.unsent = data[self.sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self.unsent = b""
            self.link.send_failed(error, now())  # the peer's last messages may still be unread

    def close(self) -> None:
        """Send the close frame if the session asks for one, and close the socket."""
        self.send()
        self.sock.close()


class Loop:
    """The driver of one session. It passes events to the application."""

    def __init__(self, url: str, handle: Callable[[Event], None]) -> None:
        self.session = Session(random=random.random)
        self.url = url
        self.handle = handle
        self.selector = selectors.DefaultSelector()
        self.dial: Dial | None = None
        self.connection: Connection | None = None

    def run(self) -> None:
        """Run until the session has stopped."""
        self.session.start(now())
        self.drain()
        while self.session.state is not State.STOPPED:
            self.wait()
            self.session.wake(now())  # too early does nothing
            self.drain()
        self.selector.close()

    def drain(self) -> None:
        """Drain the session: after any call to it, and before waiting."""
        while True:
            if self.connection is not None:  # 1. data to send
                self.connection.send()
            if self.session.dial is not self.dial:  # 2. the wanted transport
                self.redial()
                continue  # it has a handshake to send
            events = self.session.events()  # 3. events
            for event in events:
                self.handle(event)
            if not events:
                return  # otherwise again: the application may have called the session

    def redial(self) -> None:
        """Replace the transport by the one that the session wants, or by none."""
        if self.connection is not None:
            self.selector.unregister(self.connection.sock)
            self.connection.close()
            self.connection = None
        self.dial = dial = self.session.dial
        if dial is not None and dial.url is None:
            self.session.url_ready(self.url, now(), fixed=True)
        if dial is None or dial.url is None:
            return
        try:
            self.connection = Connection(self.session, dial)
        except OSError as error:
            self.session.dial_failed(error, now())
        else:
            self.selector.register(self.connection.sock, selectors.EVENT_READ)

    def wait(self) -> None:
        """Wait until the socket is ready or the deadline has come; then read."""
        timeout = None if self.session.deadline == math.inf else max(0.0, self.session.deadline - now())
        if self.connection is None:
            time.sleep(timeout or 0.0)  # not every selector can wait without a socket
            return
        more = selectors.EVENT_WRITE if self.connection.unsent else 0
        self.selector.modify(self.connection.sock, selectors.EVENT_READ | more)
        for _, ready in self.selector.select(timeout):
            if ready & selectors.EVENT_READ:
                self.connection.receive()


class Application:
    """The application: it publishes ten messages to its own group, and stops when all have come back."""

    def __init__(self, url: str) -> None:
        self.loop = Loop(url, self.handle)
        self.session = self.loop.session
        self.unanswered: set[int | None] = set()
        self.received = 0

    def handle(self, event: Event) -> None:
        if isinstance(event, Connected):
            self.unanswered.add(self.session.join_group("group1", now()))
            self.publish(0, 5)
        elif isinstance(event, GroupMessage):
            print(event.data)
            self.received += 1
            if self.received == 5 and self.loop.connection is not None:
                # As a bad network does: TLS is not asked.
                socket.socket.shutdown(self.loop.connection.sock, socket.SHUT_RDWR)
                self.publish(5, 10)  # the session notices the drop, recovers, and sends these again
        elif isinstance(event, Acked):
            self.unanswered.discard(event.ack_id)
        elif isinstance(event, Recovering | Recovered):
            print(f"-- {type(event).__name__.lower()}")
        elif isinstance(event, Stopped) and event.error is not None:
            sys.exit(f"-- stopped: {event.error}")
        if self.received == 10 and not self.unanswered:
            self.session.stop(now())

    def publish(self, first: int, end: int) -> None:
        for number in range(first, end):
            self.unanswered.add(self.session.send_to_group("group1", f"message {number}", now()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Application(sys.argv[1]).loop.run()
