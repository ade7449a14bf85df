"""A client on Tornado, over its own WebSocket client: Limpet's `Channel` in place of `Link`.

It joins a group, publishes five messages to it, and stops when all have come back:

    python examples/tornado_client.py URL
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.locks import Event as Flag
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from limpet import Acked, Channel, Close, Connected, Dial, Event, GroupMessage, Options, Session, State, Stopped

now = time.monotonic


class Connection:
    """One WebSocket with its channel: a coroutine that opens it and reads, and one that writes."""

    def __init__(self, client: Client, dial: Dial) -> None:
        self.client, self.dial = client, dial
        self.channel = Channel(client.session, dial)
        self.websocket: WebSocketClientConnection | None = None
        self.to_write, self.may_read = Flag(), Flag()
        client.loop.add_callback(self.run)

    @property
    def wanted(self) -> bool:
        return self.dial.wanted and not self.client.closed

    async def run(self) -> None:
        assert self.dial.url is not None
        channel = self.channel
        request = HTTPRequest(self.dial.url, headers=HTTPHeaders(dict(self.dial.headers)), follow_redirects=False)
        offer, limit = [self.dial.protocol], self.client.session.options.max_message_size
        try:
            self.websocket = websocket = await websocket_connect(request, subprotocols=offer, max_message_size=limit)
        except HTTPClientError as error:
            delay = error.response.headers.get("Retry-After", "") if error.response is not None else ""
            status = error.code if error.code < 599 else None  # 599: there was no answer
            channel.failed(error, now(), status=status, retry_after=float(delay) if delay.isdigit() else None)
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no WebSocket
            channel.failed(error, now())
        else:
            if websocket.selected_subprotocol == self.dial.protocol:
                channel.opened(now())
                self.client.loop.add_callback(self.write)
            else:
                websocket.close(1002)
                channel.failed("the service does not speak the subprotocol", now())
        self.client.drain()
        while self.wanted and self.websocket is not None:
            await self.may_read.wait()
            message = await websocket.read_message()
            if isinstance(message, str):
                channel.message(message, now())
            elif isinstance(message, bytes):
                channel.binary(message, now())
            else:
                channel.closed(now(), code=websocket.close_code, reason=websocket.close_reason)
            self.client.drain()
        self.drop()  # it may have been opened too late

    async def write(self) -> None:
        """Send what the channel has; take more only when the transport has taken all of that."""
        while self.wanted and self.websocket is not None:
            self.to_write.clear()
            try:
                while messages := self.channel.to_send():
                    for message in messages:
                        await self.websocket.write_message(message, binary=isinstance(message, bytes))
            except WebSocketClosedError as error:
                self.channel.send_failed(error, now())
                self.client.drain()
            if self.channel.close is not None:
                return self.drop()  # the reader reports the answer
            await self.to_write.wait()

    def read(self, wanted: bool) -> None:
        """Pause or resume reading."""
        (self.may_read.set if wanted else self.may_read.clear)()

    def drop(self) -> None:
        """Close as the session asks; Tornado waits for the peer, in the background."""
        self.to_write.set()
        self.may_read.set()
        if self.websocket is not None:
            close = self.channel.close or Close(1001)
            self.websocket.close(close.code, close.reason)


class Client:
    """The driver of one session; all its methods are for the thread of its loop."""

    def __init__(self, url: str | Callable[[], str], options: Options, handle: Callable[[Event], object]) -> None:
        self.loop = IOLoop.current()
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
        """Do what the session wants done. A call by an event in the meantime leaves it to this one."""
        if self.draining or self.closed:
            return
        self.draining = True
        try:
            while True:
                if self.connection is not None:  # 1. messages to send
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
        if self.timer is not None:
            self.loop.remove_timeout(self.timer)
            self.timer = None
        if deadline != math.inf:
            self.timer = self.loop.call_later(max(0.0, deadline - now()), self.call, self.session.wake)


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
            loop.stop()
        if len(heard) == 5 and not unanswered:
            client.stop()

    loop = IOLoop(make_current=True)
    client = Client(url, Options(), handle)
    loop.add_callback(client.start)
    loop.start()
    loop.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
