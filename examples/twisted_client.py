"""A client on Twisted: its reactor, its endpoints, and Limpet's core. No asyncio.

It joins a group, publishes five messages to it, and stops when all have come back:

    python examples/twisted_client.py URL
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from limpet import Acked, Connected, Dial, Event, GroupMessage, Link, Options, Session, State, Stopped

reactor: Any = installed_reactor
now = time.monotonic


@implementer(IPushProducer)
class Connection(Protocol):
    """One TCP or TLS connection with its link."""

    def __init__(self, client: Client, dial: Dial) -> None:
        self.client = client
        self.link = Link(client.session, dial, random_bytes=os.urandom)
        self.writable = False
        self.reading = True
        self.abort_timer: Any = None
        endpoint = self.link.endpoint
        way: Any = HostnameEndpoint(reactor, endpoint.host, endpoint.port)
        if endpoint.secure:
            from twisted.internet.ssl import optionsForClientTLS  # needs twisted[tls]

            way = wrapClientTLS(optionsForClientTLS(endpoint.host), way)
        self.opening: Deferred[Any] = connectProtocol(way, self)
        self.opening.addErrback(self.failed)

    def failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.link.failed(failure.value, now())
            self.client.drain()

    # ---- Called by the reactor

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)  # it says when its buffer is full
        self.writable = True
        self.client.drain()

    def dataReceived(self, data: bytes) -> None:
        self.link.receive_data(data, now())
        self.client.drain()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.writable = False
        if self.abort_timer is not None:
            self.abort_timer.cancel()
        self.link.transport_lost(reason.getErrorMessage(), now())
        self.client.drain()

    def pauseProducing(self) -> None:
        self.writable = False

    def resumeProducing(self) -> None:
        self.writable = True
        self.client.drain()

    def stopProducing(self) -> None:
        self.writable = False

    # ---- Called by the client

    def write(self) -> None:
        """Take data from the link as long as the transport has room."""
        while self.writable and (data := b"".join(self.link.data_to_send())):
            self.transport.write(data)

    def read(self, wanted: bool) -> None:
        """Pause or resume reading."""
        if self.writable and wanted is not self.reading:
            self.reading = wanted
            (self.transport.resumeProducing if wanted else self.transport.pauseProducing)()

    def drop(self, linger: float) -> None:
        """Send what is left, a close frame for instance; wait for a peer that does not read for ``linger`` seconds."""
        self.opening.cancel()
        if self.transport is not None and self.transport.connected:
            self.write()
            self.writable = False
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self.abort_timer = reactor.callLater(linger, self.abort)

    def abort(self) -> None:
        self.abort_timer = None
        self.transport.abortConnection()


class Client:
    """The driver of one session; all its methods are for the reactor's thread."""

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
            self.connection.drop(0.0)
            self.connection = None

    def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call the session, then drain it."""
        result = method(*args, now(), **named)
        self.drain()
        return result

    def drain(self) -> None:
        """Do what the session wants done. A call by an event or a transport in the meantime leaves it to this one."""
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
            self.connection.read(self.session.reading)  # 4. whether to read
        self.arm(self.session.deadline)  # 5. the timer

    def redial(self) -> None:
        """Replace the connection by the one that the session wants, or by none."""
        if self.connection is not None:
            self.connection.drop(1.0)
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
            self.timer.cancel()
            self.timer = None
        if deadline != math.inf:
            self.timer = reactor.callLater(max(0.0, deadline - now()), self.wake)

    def wake(self) -> None:
        self.timer = None
        self.call(self.session.wake)


def main(url: str) -> None:
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
            reactor.stop()
        if len(heard) == 5 and not unanswered:
            client.stop()

    client = Client(url, Options(), handle)
    reactor.callWhenRunning(client.start)
    reactor.run()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
