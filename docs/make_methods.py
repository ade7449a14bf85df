"""Draw docs/reference/methods.md: call each method of a session in each situation.

Run it with ``python docs/make_methods.py``.
``--check`` writes nothing; the exit status is 0 if the file is up to date.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path

from limpet import Backoff, ConnectError, LimpetError, Options, Session

TARGET = Path(__file__).parent / "reference" / "methods.md"
URL = "wss://example.test/client/hubs/chat?access_token=x"
HELLO = '{"type":"system","event":"connected","connectionId":"c1","reconnectionToken":"t"}'
NEWS = b'{"type":"message","from":"server","dataType":"text","data":"x","sequenceId":1}'
NOW = 100.0

Call = Callable[[Session], object]


def _new() -> Session:
    options = Options(reconnect=Backoff(initial=5.0, jitter=0.0), keepalive_interval=None, keepalive_timeout=None)
    return Session(options, random=lambda: 0.5)


def _asked() -> Session:
    session = _new()
    session.start(NOW)
    return session


def _dialled() -> Session:
    session = _asked()
    session.url_ready(URL, NOW)
    return session


def _open() -> Session:
    session = _dialled()
    session.connected(NOW)
    return session


def _connected() -> Session:
    session = _open()
    session.receive_message(HELLO, NOW)
    return session


def _recovering() -> Session:
    session = _connected()
    session.disconnected(NOW)
    return session


def _recovering_open() -> Session:
    session = _recovering()
    session.connected(NOW)
    return session


def _recovering_later() -> Session:
    session = _recovering()
    session.dial_failed(OSError("no"), NOW)
    return session


def _waiting() -> Session:
    session = _connected()
    session.disconnected(NOW, code=1008)
    return session


def _stopping() -> Session:
    session = _connected()
    session.stop(NOW)
    return session


SITUATIONS: dict[str, Callable[[], Session]] = {
    "STOPPED": _new,
    "CONNECTING, no URL": _asked,
    "CONNECTING, dialling": _dialled,
    "CONNECTING, open": _open,
    "CONNECTED": _connected,
    "RECOVERING, dialling": _recovering,
    "RECOVERING, open": _recovering_open,
    "RECOVERING, later": _recovering_later,
    "WAITING": _waiting,
    "STOPPING": _stopping,
}
"""How to bring a session there; see docs/reference/methods.md for the words."""

LIFE: dict[str, Call] = {
    "start": lambda s: s.start(NOW),
    "stop": lambda s: s.stop(NOW),
    "wake, at the deadline": lambda s: s.wake(s.deadline if s.deadline < math.inf else NOW),
    "wake, early": lambda s: s.wake(NOW),
    "check": lambda s: s.check(NOW),
    "asleep, after a suspend": lambda s: (s.asleep(0.0, NOW), s.asleep(60.0, NOW)),
}
TRANSPORT: dict[str, Call] = {
    "url_ready": lambda s: s.url_ready(URL, NOW),
    "url_failed": lambda s: s.url_failed(OSError("no"), NOW),
    "connected": lambda s: s.connected(NOW),
    "dial_refused": lambda s: s.dial_refused(ConnectError("no"), NOW),
    "dial_failed": lambda s: s.dial_failed(OSError("no"), NOW),
    "receive_message, connected": lambda s: s.receive_message(HELLO, NOW),
    "receive_message, pong": lambda s: s.receive_message('{"type":"pong"}', NOW),
    "receive_messages, data": lambda s: s.receive_messages([NEWS], NOW),
    "receive_message, broken": lambda s: s.receive_message("{", NOW),
    "receive_binary": lambda s: s.receive_binary(b"", NOW),
    "heard": lambda s: s.heard(NOW),
    "transport_broken": lambda s: s.transport_broken(1002, "a wrong frame", NOW),
    "send_failed": lambda s: s.send_failed(NOW),
    "disconnected, 1006": lambda s: s.disconnected(NOW),
    "disconnected, 1008": lambda s: s.disconnected(NOW, code=1008),
}
APPLICATION: dict[str, Call] = {
    "join_group": lambda s: s.join_group("g", NOW),
    "leave_group": lambda s: s.leave_group("g", NOW),
    "send_to_group": lambda s: s.send_to_group("g", "x", NOW),
    "send_event": lambda s: s.send_event("e", "x", NOW),
    "send_prepared": lambda s: s.send_prepared(s.prepare_event("e", "x"), NOW, publish=False),
    "set_group_state": lambda s: s.set_group_state("g", {}, NOW),
    "clear_group_state": lambda s: s.clear_group_state("g", NOW),
    "subscribe_group_states": lambda s: s.subscribe_group_states("g", NOW),
    "unsubscribe_group_states": lambda s: s.unsubscribe_group_states("g", NOW),
    "open_stream": lambda s: s.open_stream("g", NOW),
    "open_stream, write_stream": lambda s: s.write_stream(s.open_stream("g", NOW), "x", NOW),
    "open_stream, end_stream": lambda s: s.end_stream(s.open_stream("g", NOW), NOW),
    "open_stream, abort_stream": lambda s: s.abort_stream(s.open_stream("g", NOW), "no", NOW),
    "invoke": lambda s: s.invoke("e", "x", NOW),
    "cancel_invocation": lambda s: s.cancel_invocation("1", NOW),
    "withdraw": lambda s: s.withdraw(1),
    "reading_paused": lambda s: s.reading_paused(NOW),
    "reading_resumed": lambda s: s.reading_resumed(NOW),
    "sender_waits": lambda s: s.sender_waits(NOW),
    "check_running": lambda s: s.check_running(),
}
TABLES = {"Life and time": LIFE, "The transport": TRANSPORT, "The application": APPLICATION}

INTRODUCTION = """# Methods by state

`docs/make_methods.py` draws this page: it calls each method of a `Session` in each situation and notes the outcome.
A cell has what to look at next, and the new state behind an arrow:

| sign | look at |
|---|---|
| `D` | `session.dial`: another transport is wanted, or none, or `dial.url` or `dial.close` is set |
| `M` | `session.messages_to_send()`, `link.data_to_send()` or `channel.to_send()` |
| `E` | `session.events()` |
| `T` | `session.deadline` is earlier |
| `R` | `session.reading` has changed |
| `✗` | a `LocalProtocolError` was raised (`ClientStopped` for requests), and nothing has changed |
| `·` | nothing has changed |

With a `Link` or `Channel`, never call `messages_to_send`, `connected`, `disconnected` or a `receive_...` of the
session: the link or channel calls them.

To look at everything after every call is right, too: it costs little. Wrong arguments raise `InvalidType` or
`InvalidValue` in any state, and a call amid another call raises `LocalProtocolError`; neither changes anything.

A session in a state waits for something:

| situation | the session waits for |
|---|---|
| STOPPED | `start` |
| CONNECTING, no URL | `url_ready` or `url_failed` for `session.dial` |
| CONNECTING, dialling | `connected` or `dial_failed` |
| CONNECTING, open | the service's connected message |
| CONNECTED | messages, pings, acks |
| RECOVERING, dialling | `connected` or `dial_failed`; the dial has its URL |
| RECOVERING, open | any message: it shows that the service took the connection back |
| RECOVERING, later | its deadline, at which it dials again |
| WAITING | its deadline, at which it asks for a URL |
| STOPPING | `disconnected`, or its deadline after `close_timeout` |

## The flow of data

```mermaid
flowchart LR
    network([network]) -- bytes --> Link
    library([WebSocket library]) -- messages --> Channel
    Link -- "connected, receive_messages, disconnected, ..." --> Session
    Channel -- "the same calls" --> Session
    application([application]) -- "start, stop, requests" --> Session
    timer([timer]) -- wake --> Session
    Session -- "1. messages_to_send" --> write["link.data_to_send / channel.to_send"]
    write --> network
    Session -- "2. dial" --> transport["open, close, drop a transport"]
    Session -- "3. events" --> callbacks([callbacks, futures, streams])
    Session -- "4. reading" --> pause["pause or resume reading"]
    Session -- "5. deadline" --> timer
```

Drain in this order, and begin again if an event's handler has called the session:

1. **Messages first.** An ack or a close frame must not wait for a slow handler.
2. **The dial.** A handler may ask for the state of things, and finds the transport of the new dial, not the old one.
3. **Events.** They run foreign code, which may call the session: so they come after all that was to be done at once.
4. **Reading, and 5. the deadline**, which events may have changed.
"""


def page() -> str:
    """Return the text of docs/reference/methods.md."""
    parts = [INTRODUCTION]
    for title, calls in TABLES.items():
        parts.append(f"\n## {title}\n")
        parts.append("| method | " + " | ".join(SITUATIONS) + " |")
        parts.append("|---" * (len(SITUATIONS) + 1) + "|")
        parts += [f"| `{name}` | " + " | ".join(_cells(call)) + " |" for name, call in calls.items()]
    return "\n".join(parts) + "\n"


def _cells(call: Call) -> list[str]:
    return [outcome(make, call) for make in SITUATIONS.values()]


def outcome(make: Callable[[], Session], call: Call) -> str:
    """Return the cell for a call in a situation."""
    session = make()
    session.events()
    session.messages_to_send()
    state, dial, deadline, reading = session.state, session.dial, session.deadline, session.reading
    before = None if dial is None else (dial.url, dial.close)
    try:
        call(session)
    except LimpetError:
        return "✗" if _seen(session) == (state, dial, deadline, reading) else "✗?"
    signs = "D" if session.dial is not dial or (dial is not None and (dial.url, dial.close) != before) else ""
    signs += "M" if session.messages_to_send() else ""
    signs += "E" if session.events() else ""
    signs += "T" if session.deadline < deadline else ""
    signs += "R" if session.reading is not reading else ""
    arrow = f" → {session.state.name}" if session.state is not state else ""
    return (" ".join(signs) + arrow).strip() or "·"


def _seen(session: Session) -> tuple[object, ...]:
    return session.state, session.dial, session.deadline, session.reading


def main() -> None:
    """Write or check the file."""
    logging.disable()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if TARGET.read_text() == page() else f"{TARGET.name} is out of date: run docs/make_methods.py")
    TARGET.write_text(page())


if __name__ == "__main__":
    main()
