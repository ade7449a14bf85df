"""Limpet's core over a blocking WebSocket library: no `Link`, no threads, no asyncio.

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

from limpet import Acked, Close, Connected, ConnectError, Dial, Event, GroupMessage, Session, State, Stopped

now = time.monotonic


def run(session: Session, url: str, handle: Callable[[Event], None]) -> None:
    """Run until the session has stopped. After any call to the session, drain before you wait."""
    dial: Dial | None = None
    websocket: ClientConnection | None = None
    session.start(now())
    while True:
        if session.dial is not dial:  # 1. the wanted transport
            if dial is not None and websocket is not None:
                close = dial.close or Close(1001)
                websocket.close(close.code, close.reason)
            dial, websocket = session.dial, None
            if dial is not None and dial.url is None:
                session.url_ready(url, now(), fixed=True)
            if dial is not None and dial.wanted:
                websocket = open_websocket(session, dial)
        if dial is not None and websocket is not None:  # 2. data to send
            send(session, dial, websocket)
        events = session.events()  # 3. events
        for event in events:
            handle(event)
        if events or session.dial is not dial:
            continue
        if session.state is State.STOPPED:
            return
        timeout = None if session.deadline == math.inf else max(0.0, session.deadline - now())
        if websocket is None:
            time.sleep(timeout or 0.0)
        else:
            receive(session, websocket, timeout)
        session.wake(now())  # too early does nothing


def open_websocket(session: Session, dial: Dial) -> ClientConnection | None:
    """Open the WebSocket that ``dial`` asks for, and report the result to the session."""
    assert dial.url is not None
    try:
        websocket = ExitStack().enter_context(  # not `with`: the session decides when and how to close
            connect(
                dial.url,
                subprotocols=[Subprotocol(dial.protocol)],
                open_timeout=10,
                close_timeout=0.5,
                ping_interval=None,  # the session has pings of its own
                max_size=session.options.max_message_size,
            )
        )
    except InvalidStatus as error:
        session.dial_failed(error, now(), status=error.response.status_code)
    except (OSError, WebSocketException) as error:
        session.dial_failed(error, now())
    else:
        if websocket.subprotocol == dial.protocol:
            session.connected(now())
            return websocket
        websocket.close(1002)
        session.dial_failed(ConnectError("the service does not speak the subprotocol"), now())
    return None


def send(session: Session, dial: Dial, websocket: ClientConnection) -> None:
    """Send the waiting messages, and the close if the session asks for one."""
    try:
        for message in session.messages_to_send():
            websocket.send(message.decode())
    except ConnectionClosed as error:
        closed(session, error)
    if dial.close is not None and dial.wanted:
        websocket.close(dial.close.code, dial.close.reason)
        session.disconnected(now())


def receive(session: Session, websocket: ClientConnection, timeout: float | None) -> None:
    """Wait for one message, at most until the deadline."""
    try:
        message = websocket.recv(timeout)
    except TimeoutError:
        return
    except ConnectionClosed as error:
        closed(session, error)
    else:
        if isinstance(message, str):
            session.receive_message(message, now())
        else:
            session.receive_binary(now())


def closed(session: Session, error: ConnectionClosed) -> None:
    """Report the end of the transport; the close code decides whether the connection can be recovered."""
    if error.rcvd is None:
        session.disconnected(now(), reason=str(error))
    else:
        session.disconnected(now(), code=error.rcvd.code, reason=error.rcvd.reason)


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
