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

RECORD = 16 * 1024  # no TLS record is larger, so a bigger buffer would be allocated in vain for each
now = time.monotonic


class Connection:
    """One TCP connection with a Link on it. It knows nothing of the loop and of other connections."""

    def __init__(self, session: Session, dial: Dial) -> None:
        self.link = Link(session, dial, random_bytes=os.urandom)
        self.unsent = b""
        # To keep this short, name look-up, TCP connect and TLS handshake block, for a few seconds at most.
        endpoint = self.link.endpoint
        self.sock = socket.create_connection((endpoint.host, endpoint.port), timeout=10)
        if endpoint.secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=endpoint.host)
        self.sock.setblocking(False)

    def receive(self) -> None:
        """The socket can be read."""
        try:
            data = self.sock.recv(RECORD)
            while isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
                data += self.sock.recv(RECORD)  # no selector sees what TLS has decrypted already
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self.link.transport_lost(str(error), now())
        else:
            self.link.receive_data(data, now())  # b"": the peer will send no more

    def send(self) -> None:
        """Write what there is to write; take more only when that is gone."""
        try:
            while data := self.unsent or b"".join(self.link.data_to_send()):
                self.unsent = data
                self.unsent = data[self.sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self.link.transport_lost(str(error), now())

    def close(self) -> None:
        """Say goodbye if the session wants that, and close."""
        self.send()
        self.sock.close()


class Loop:
    """Keeps one session going, and hands its events to the application."""

    def __init__(self, url: str, handle: Callable[[Event], None]) -> None:
        self.session = Session(random=random.random)
        self.url = url
        self.handle = handle
        self.selector = selectors.DefaultSelector()
        self.dial: Dial | None = None
        self.connection: Connection | None = None

    def run(self) -> None:
        """Until the session has stopped."""
        self.session.start(now())
        self.drain()
        while self.session.state is not State.STOPPED:
            self.wait()
            self.session.wake(now())  # too early does nothing
            self.drain()
        self.selector.close()

    def drain(self) -> None:
        """The one rule: after any call to the session, do what it wants before you wait."""
        while True:
            if self.session.dial is not self.dial:  # 1. the transport that is wanted
                self.redial()
            if self.connection is not None:  # 2. what there is to send
                self.connection.send()
            events = self.session.events()  # 3. what has happened
            for event in events:
                self.handle(event)
            if not events and self.session.dial is self.dial:
                return  # else again: handling an event, or a failure to send, may have given us more to do

    def redial(self) -> None:
        """The session wants another transport than the one there is, or none."""
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
        """Until the socket is ready or something is due; then read."""
        timeout = None if self.session.deadline == math.inf else max(0.0, self.session.deadline - now())
        if self.connection is None:
            time.sleep(timeout or 0.0)  # not every selector can wait for nothing
            return
        more = selectors.EVENT_WRITE if self.connection.unsent else 0
        self.selector.modify(self.connection.sock, selectors.EVENT_READ | more)
        for _, ready in self.selector.select(timeout):
            if ready & selectors.EVENT_READ:
                self.connection.receive()


class Application:
    """Publishes ten messages to a group it is in, and stops when all have come back."""

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
                self.loop.connection.sock.shutdown(socket.SHUT_RDWR)  # what a bad network does
                self.publish(5, 10)  # the session will find out, recover, and send these again
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
