"""A client in a browser, in Pyodide: the page's own WebSocket and timers, and Limpet's `Channel`.

A page may close a WebSocket with code 1000 and with 3000 to 4999 alone; any other close goes without a code. It learns
neither the status of a refused handshake nor of pings, and cannot pause. In a page that has Pyodide, call `main(url)`.
Elsewhere, python examples/browser_client.py shows this text and does nothing.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from limpet import Acked, Channel, Connected, Dial, Event, GroupMessage, Options, Session, State, Stopped

try:
    import js
    from pyodide.ffi import create_once_callable, create_proxy
except ImportError:
    sys.exit(__doc__)

BUFFER = 1 << 20
"""Bytes that the page's WebSocket may hold back: with more than that it takes no further message."""

now = time.monotonic


class Connection:
    """One WebSocket of the page, with its channel."""

    def __init__(self, client: Client, dial: Dial) -> None:
        self.client = client
        self.channel = Channel(client.session, dial)
        self.timer: Any = None
        self.websocket: Any = js.WebSocket.new(dial.url, dial.protocol)
        self.websocket.binaryType = "arraybuffer"
        self.proxies: dict[str, Any] = {
            name: create_proxy(getattr(self, name)) for name in ("onopen", "onmessage", "onclose")
        }
        for name, proxy in self.proxies.items():  # onerror tells nothing, and onclose follows
            setattr(self.websocket, name, proxy)

    # ---- Called by the page

    def onopen(self, _: Any) -> None:
        self.channel.opened(now())
        self.client.drain()

    def onmessage(self, event: Any) -> None:
        if isinstance(event.data, str):
            self.channel.message(event.data, now())
        else:
            self.channel.binary(b"", now())  # what is in it does not matter
        self.client.drain()

    def onclose(self, event: Any) -> None:
        self.channel.closed(now(), code=event.code, reason=event.reason)
        self.client.drain()

    # ---- Called by the client

    def write(self) -> None:
        """Send what the page has room for, and the close behind it; look again soon if there is no room."""
        while self.websocket.bufferedAmount < BUFFER and (messages := self.channel.to_send()):
            for message in messages:
                self.websocket.send(message)
        if self.channel.close is not None:
            self.shut()
        elif self.websocket.bufferedAmount >= BUFFER and self.timer is None:
            self.timer = set_timer(0.02, self.look_again)

    def look_again(self) -> None:
        self.timer = None
        self.client.drain()

    def shut(self) -> None:
        """Close with the code of the session, if the page may."""
        close = self.channel.close
        if close is not None and (close.code == 1000 or 3000 <= close.code <= 4999):
            self.websocket.close(close.code, close.reason)
        else:
            self.websocket.close()

    def drop(self) -> None:
        """Close, and hear no more of it."""
        self.write()
        if self.timer is not None:
            clear_timer(self.timer)
        for name, proxy in self.proxies.items():
            setattr(self.websocket, name, None)
            proxy.destroy()
        self.shut()


def set_timer(seconds: float, function: Callable[[], None]) -> tuple[Any, Any]:
    proxy = create_once_callable(function)  # frees itself when it is called
    return js.setTimeout(proxy, math.ceil(seconds * 1000)), proxy


def clear_timer(timer: tuple[Any, Any]) -> None:
    js.clearTimeout(timer[0])
    timer[1].destroy()


class Client:
    """The driver of one session."""

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
            clear_timer(self.timer)
            self.timer = None
        if deadline != math.inf:  # a page takes no timer of more than 24 days
            self.timer = set_timer(min(max(0.0, deadline - now()), 86400.0), self.wake)

    def wake(self) -> None:
        self.timer = None
        self.call(self.session.wake)


def main(url: str) -> None:
    """Join a group, publish five messages to it, and stop when all have come back."""
    unanswered: set[int | None] = set()
    heard: list[object] = []

    def handle(event: Event) -> None:
        if isinstance(event, Connected):
            unanswered.add(client.join_group("group1"))
            unanswered.update(client.send_to_group("group1", f"message {number}") for number in range(5))
        elif isinstance(event, GroupMessage | Stopped):
            print(event)
            heard.append(event)
        elif isinstance(event, Acked):
            unanswered.discard(event.ack_id)
        if len(heard) == 5 and not unanswered:
            client.stop()

    client = Client(url, Options(), handle)
    client.start()
