"""A client on gevent: its sockets and greenlets, and Limpet's core. Nothing is monkey-patched.

It joins a group, publishes five messages to it, and stops when all have come back:

    python examples/gevent_client.py URL
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import ssl
from gevent.event import Event as Flag
from gevent.socket import socket

from limpet import Acked, Connected, Dial, Event, GroupMessage, Link, Options, Session, State, Stopped

now = time.monotonic


class Connection:
    """One TCP or TLS connection with its link: a greenlet that opens it and reads, and one that writes."""

    def __init__(self, client: Client, dial: Dial) -> None:
        self.client, self.dial = client, dial
        self.link = Link(client.session, dial, random_bytes=os.urandom)
        self.sock: Any = socket()
        self.to_write, self.may_read = Flag(), Flag()
        self.unsent = False
        self.reader = gevent.spawn(self.run)
        self.writer: Any = None

    def run(self) -> None:
        endpoint = self.link.endpoint
        try:
            self.sock.connect((endpoint.host, endpoint.port))
            if endpoint.secure:
                self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=endpoint.host)
        except OSError as error:
            self.link.failed(error, now())
            self.client.drain()
            return
        self.writer = gevent.spawn(self.write_all)
        while self.dial.wanted and not self.client.closed:
            self.may_read.wait()
            try:
                data = self.sock.recv(65536)
            except OSError as error:
                self.link.transport_lost(str(error), now())
            else:
                self.link.receive_data(data, now())  # b"": the peer will send no more
            self.client.drain()

    def write_all(self) -> None:
        """Write what the link has; take more from it only when all of that is written."""
        while self.dial.wanted and not self.client.closed:
            self.to_write.clear()
            try:
                while data := b"".join(self.link.data_to_send()):
                    self.unsent = True
                    self.sock.sendall(data)
                    self.unsent = False
            except OSError as error:
                self.link.send_failed(error, now())
                self.client.drain()
            self.to_write.wait()

    def read(self, wanted: bool) -> None:
        """Pause or resume reading."""
        (self.may_read.set if wanted else self.may_read.clear)()

    def drop(self) -> None:
        """Send the close frame if the session asks for one, but wait for nobody; end both greenlets."""
        data = b"".join(self.link.data_to_send())
        if data and not self.unsent and self.writer is not None:
            self.sock.setblocking(False)
            try:
                self.sock.send(data)
            except OSError:
                data = b""  # the peer does not read, or has gone
        self.sock.close()
        for greenlet in (self.reader, self.writer):
            if greenlet is not None and greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)


class Client:
    """The driver of one session; all its methods are for the thread of its hub, and none of them switches."""

    def __init__(self, url: str | Callable[[], str], options: Options, handle: Callable[[Event], object]) -> None:
        self.session = Session(options, random=random.random)
        self.url, self.handle = url, handle
        self.dial: Dial | None = None
        self.connection: Connection | None = None
        self.timer: Any = None
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
        """Do what the session wants done. A call by an event, or while an event waits, leaves it to this one."""
        if self.draining or self.closed:
            return
        self.draining = True
        try:
            while True:
                if self.connection is not None:  # 1. data to send
                    self.connection.to_write.set()
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
            self.connection.read(self.session.reading)  # 4. whether to read
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
        if self.timer is not None and self.timer is not gevent.getcurrent():
            self.timer.kill(block=False)
        self.timer = None
        if deadline != math.inf:
            self.timer = gevent.spawn_later(max(0.0, deadline - now()), self.call, self.session.wake)


def main(url: str) -> None:
    over = Flag()
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
            over.set()
        if len(heard) == 5 and not unanswered:
            client.stop()

    client = Client(url, Options(), handle)
    client.start()
    over.wait()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
