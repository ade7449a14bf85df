"""Limpet's core over a blocking WebSocket library, with a `Channel`: no threads, no asyncio.

It joins a group, publishes five messages to it, and stops when all have come back. Drops of the network do no harm:

    python examples/blocking_websocket.py URL
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from limpet import Acked, Channel, Connected, Dial, Event, GroupMessage, Session, State, Stopped

now = time.monotonic


def run(session: Session, url: str, handle: Callable[[Event], None]) -> None:
    """Run until the session has stopped. After any call to the session, drain before you wait."""
    socket: Socket | None = None
    dial: Dial | None = None
    session.start(now())
    while True:
        if socket is not None:  # 1. messages, and the close behind them
            socket.send()
        if session.dial is not dial:  # 2. the wanted transport
            dial, socket = session.dial, None
            if dial is not None and dial.url is None:
                session.url_ready(url, now(), fixed=True)
            if dial is not None and dial.wanted:
                socket = open_socket(session, dial)
        events = session.events()  # 3. events
        for event in events:
            handle(event)
        if events or session.dial is not dial:
            continue
        if session.state is State.STOPPED:
            return
        timeout = None if session.deadline == math.inf else max(0.0, session.deadline - now())
        if socket is None:
            time.sleep(timeout or 0.0)
        else:
            socket.receive(timeout)
        session.wake(now())  # too early does nothing


class Socket:
    """One WebSocket and its channel. Calls of the channel do nothing once the session wants another transport."""

    def __init__(self, channel: Channel, websocket: ClientConnection) -> None:
        self.channel = channel
        self.websocket = websocket

    def send(self) -> None:
        """Send the waiting messages, and close if the session asks for it."""
        try:
            for message in self.channel.to_send():
                self.websocket.send(message)
        except ConnectionClosed as error:
            self.channel.send_failed(error, now())  # recv() returns what has arrived, then raises
        if (close := self.channel.close) is not None:
            self.websocket.close(close.code, close.reason)
            self.channel.closed(now())

    def receive(self, timeout: float | None) -> None:
        """Wait for one message, at most until the deadline."""
        try:
            message = self.websocket.recv(timeout)
        except TimeoutError:
            return
        except ConnectionClosed as error:
            self.closed(error)
        else:
            if isinstance(message, str):
                self.channel.message(message, now())
            else:
                self.channel.binary(message, now())

    def closed(self, error: ConnectionClosed) -> None:
        """Report the end; the close code decides whether the connection can be recovered."""
        if error.rcvd is None:
            self.channel.failed(error, now())
        else:
            self.channel.closed(now(), code=error.rcvd.code, reason=error.rcvd.reason)


def open_socket(session: Session, dial: Dial) -> Socket | None:
    """Open the WebSocket that ``dial`` asks for, and report the result to its channel."""
    assert dial.url is not None
    channel = Channel(session, dial)
    try:
        websocket = ExitStack().enter_context(  # not `with`: the session decides when and how to close
            connect(
                dial.url,
                subprotocols=[Subprotocol(dial.protocol)],
                additional_headers=dial.headers,
                open_timeout=10,
                close_timeout=0.5,
                ping_interval=None,  # the session has pings of its own
                max_size=session.options.max_message_size,
            )
        )
    except InvalidStatus as error:
        channel.failed(error, now(), status=error.response.status_code)
    except (OSError, WebSocketException) as error:
        channel.failed(error, now())
    else:
        if websocket.subprotocol == dial.protocol:
            channel.opened(now())
            return Socket(channel, websocket)
        websocket.close(1002)
        channel.failed("the service does not speak the subprotocol", now())
    return None


def main(url: str) -> None:
    session = Session(random=random.random)
    unanswered: set[int | None] = set()
    heard = 0

    def handle(event: Event) -> None:
        nonlocal heard
        if isinstance(event, Connected):
            unanswered.add(session.join_group("group1", now()))
            unanswered.update(session.send_to_group("group1", f"message {number}", now()) for number in range(5))
        elif isinstance(event, GroupMessage):
            print(event.data)
            heard += 1
        elif isinstance(event, Acked):
            unanswered.discard(event.ack_id)
        elif isinstance(event, Stopped) and event.error is not None:
            sys.exit(f"-- stopped: {event.error}")
        if heard == 5 and not unanswered:
            session.stop(now())

    run(session, url, handle)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
