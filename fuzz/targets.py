"""What is fuzzed: plain functions that take any bytes and raise only where a promise is broken.

The test suite runs each of them over ``corpus`` and over bytes of hypothesis' making; ``run.py`` hands them to atheris.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from fuzz.oracle import Oracle
from fuzz.protobuf import protobuf_into_service, protobuf_into_session
from fuzz.schedules import schedules_of_drivers
from fuzz.service import filters_on_connections, messages_into_service, requests_into_service
from simulation.oracle import Ask
from simulation.parts import PartsOracle
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection

from limpet import (
    Backoff,
    Link,
    LocalProtocolError,
    Options,
    Session,
    State,
)

URL = "ws://service.test/client/hubs/chat?access_token=secret"
HELLO = b'{"type":"system","event":"connected","connectionId":"c1","userId":null,"reconnectionToken":"t"}'
OPTIONS = Options(reconnect=Backoff(limit=3), max_message_size=5000, keepalive_interval=None, keepalive_timeout=None)

Target = Callable[[bytes], None]


class WsprotoLink(Link):
    """A Link without the fast lane."""

    _fast_lane = False


def frames_into_link(data: bytes) -> None:
    """Any bytes after (and in place of) the handshake, in any chunks: both lanes tell the session the same."""
    if not data:
        return
    stream, size = data[1:], (data[0] & 0x1F) + 1
    results = []
    for kind in (Link, WsprotoLink):
        session = Session(OPTIONS, random=lambda: 0.5)
        session.start(0.0)
        session.url_ready(URL, 0.0)
        assert session.dial is not None
        link = kind(session, session.dial, random_bytes=bytes)
        (handshake,) = link.data_to_send()
        if data[0] & 0x80:
            server = WSConnection(ConnectionType.SERVER)
            server.receive_data(handshake)
            list(server.events())
            answer = server.send(AcceptConnection(subprotocol="json.reliable.webpubsub.azure.v1"))
            link.receive_data(answer + b"\x81%c" % len(HELLO) + HELLO, 1.0)
        for at in range(0, len(stream), size):
            link.receive_data(stream[at : at + size], 1.0)
            link.data_to_send()
        link.receive_data(b"", 1.0)
        link.data_to_send()
        assert link.close_expected, "after the end of the stream nothing is expected"
        results.append((repr(session.events()), session.state, session.deadline, session.connection_id))
    assert results[0] == results[1]


def messages_into_session(data: bytes) -> None:
    """Any messages, one per line: nothing raises, messages come in order and once, and stop() still stops.

    There are always a stream ``s`` with a fragment, an invocation ``i`` and a subscription of ``g``.
    """
    session = Session(OPTIONS, random=lambda: 0.5)
    session.start(0.0)
    session.url_ready(URL, 0.0)
    session.connected(0.0)
    session.receive_message(HELLO, 0.0)
    oracle = Oracle(reliable=True)
    oracle.started()
    for number, line in enumerate(data.split(b"\n")):
        now = float(number)
        text = line.decode("utf-8", "replace").encode()  # a transport has checked that it is UTF-8
        _have_parts(session, oracle, now)
        standing = session.dial if session.state is State.CONNECTED else None
        session.receive_message(text, now)
        oracle.saw_all(session.events())
        oracle.compare(session, "g")
        if standing is not None and (sequence_id := sequence_id_of(text)) is not None:
            assert oracle.last >= sequence_id, "a whole message is delivered, or told as missed at once"
            assert session.dial is standing, "and the connection is left alone"
        for message in session.messages_to_send():
            oracle.sends(message)
        if session.dial is not None:
            session.connected(now)
        session.wake(now)
        assert session.deadline > now
    session.stop(1e6)
    session.disconnected(1e6)
    oracle.saw_all(session.events())
    assert (session.state, oracle.running) == (State.STOPPED, False)


def _have_parts(session: Session, oracle: Oracle, now: float) -> None:
    """Begin what the service can speak of, and is over or was never begun."""
    if session.state is State.STOPPED:
        return
    if "s" not in oracle.streams:
        try:
            oracle.opens(session.open_stream("g", now, stream_id="s"))
        except LocalProtocolError as error:
            if "belongs to a failed stream" not in str(error):  # that the service has not closed yet
                raise
        else:
            session.write_stream("s", "x", now)
    if "i" not in oracle.invocations:
        oracle.invokes(session.invoke("e", None, now, invocation_id="i"))
    if not oracle.waiting:
        oracle.asks(Ask("watch", session.subscribe_group_states("g", now), chain="all"))
    for message in session.messages_to_send():
        oracle.sends(message)


def operations_on_session(data: bytes) -> None:
    """Any sequence of calls: misuse raises LocalProtocolError alone, all requests settle once, nothing stays due."""
    session = Session(OPTIONS, random=lambda: 0.5)
    now, oracle = 0.0, Oracle(reliable=True)
    operations = iter(data)
    for code in operations:
        argument = next(operations, 0)
        before = session.state
        try:
            result = OPERATIONS[code % len(OPERATIONS)](session, argument, now)
        except LocalProtocolError:
            result = None
            assert session.state is before
        if isinstance(result, float):
            now = result
        elif isinstance(result, list):
            for message in result:
                oracle.sends(message)
        elif type(result) is int:
            oracle.asks(Ask("request", result))
        elif isinstance(result, Ask):
            oracle.asks(result)
        elif isinstance(result, tuple):
            tells, *arguments = result
            tells(oracle, *arguments)
        if before is State.STOPPED and session.state is not State.STOPPED:
            oracle.started()
        oracle.saw_all(session.events())
        oracle.compare(session, "gh")
    session.stop(now)
    session.disconnected(now)
    oracle.saw_all(session.events())
    assert (session.state, session.deadline, session.dial) == (State.STOPPED, math.inf, None)
    assert session.messages_to_send() == []
    assert not oracle.running


def sequence_id_of(text: bytes) -> int | None:
    """The sequence id of a data message, as Python's own decoder reads it."""
    try:
        fields = json.loads(text.decode(), parse_constant=int)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("type") != "message":
        return None
    sequence_id = fields.get("sequenceId")
    return sequence_id if type(sequence_id) is int and 1 <= sequence_id < 2**64 else None


# ---- The operations: each takes an argument of one byte, and may return an ack id, messages or a new time


def _hello(session: Session, argument: int, now: float) -> None:
    if session.state is State.RECOVERING or session.connection_id is not None:
        session.receive_message(b'{"type":"pong"}', now)
    else:
        _hello.count += 1  # type: ignore[attr-defined]
        session.receive_message(HELLO.replace(b"c1", b"n%d" % _hello.count), now)  # type: ignore[attr-defined]


_hello.count = 0  # type: ignore[attr-defined]


def _open(session: Session, argument: int, now: float) -> None:
    session.url_ready(URL, now, fixed=bool(argument & 1))
    session.connected(now)


def _wake(session: Session, argument: int, now: float) -> float:
    if argument & 1 and session.deadline < math.inf:
        now = max(now, session.deadline)
    now += argument / 16
    session.wake(now)
    assert session.deadline > now
    return now


def _answer(session: Session, argument: int, now: float) -> None:
    name = (None, "Duplicate", "InternalServerError", "Forbidden")[argument >> 6]
    body = '"success":true' if name is None else f'"success":false,"error":{{"name":"{name}","message":""}}'
    session.receive_message(f'{{"type":"ack","ackId":{argument & 0x3F},{body}}}', now)


def _news(session: Session, argument: int, now: float) -> None:
    session.receive_message(b'{"type":"message","from":"server","data":1,"sequenceId":%d}' % argument, now)


def _nothing(result: object) -> None:
    """Make a call whose result is no ack id."""


def _stream_id(argument: int) -> str:
    return "st"[argument & 1]


def _invocation_id(argument: int) -> str:
    return "i" if argument & 1 else str(1 + (argument >> 1) % 4)


def _says_of_stream(session: Session, argument: int, now: float) -> None:
    type_ = ("streamAck", "streamNack", "streamClosed", "streamClosed")[argument >> 6]
    error = ',"error":{"name":"StreamNotFound"}' if argument & 0x20 else ""
    expected = f'"expectedSequenceId":{(1, 1, 1, 2, 2, 3, 4, 0)[(argument >> 1) & 7]}'
    session.receive_message(f'{{"type":"{type_}","streamId":"{_stream_id(argument)}",{expected}{error}}}', now)


def _replies(session: Session, argument: int, now: float) -> None:
    body = '"success":true' if argument & 0x80 else '"success":false,"error":{"name":"NotFound"}'
    session.receive_message(f'{{"type":"invokeResponse","invocationId":"{_invocation_id(argument)}",{body}}}', now)


def _says_of_states(session: Session, argument: int, now: float) -> None:
    type_ = "groupStateSnapshot" if argument & 0x80 else "groupStateUpdate"
    state = ',"state":{"a":"b"}' if argument & 0x40 else ""
    item = f'{{"connectionId":"c{argument & 3}","updatedAt":{(argument >> 2) & 15}{state}}}'
    session.receive_message(f'{{"type":"{type_}","group":"g","items":[{item}]}}', now)


OPERATIONS: list[Callable[[Session, int, float], object]] = [
    lambda session, argument, now: session.start(now),
    _open,
    _hello,
    _wake,
    _answer,
    _news,
    lambda session, argument, now: session.messages_to_send(),
    lambda session, argument, now: session.join_group("gh"[argument & 1], now),
    lambda session, argument, now: session.leave_group("gh"[argument & 1], now),
    lambda session, argument, now: session.send_to_group("g", argument, now, ack=argument < 200),
    lambda session, argument, now: session.send_event("e", "x", now, ack_id=argument),
    lambda session, argument, now: session.disconnected(now, code=1000 + argument % 16),
    lambda session, argument, now: session.dial_failed(OSError(), now, status=400 + argument % 8),
    lambda session, argument, now: session.url_failed(OSError(), now),
    lambda session, argument, now: session.transport_broken(1000 + argument % 16, "?", now),
    lambda session, argument, now: session.receive_binary(b"", now),
    lambda session, argument, now: session.receive_message(b"{", now),
    lambda session, argument, now: session.reading_paused(now) if argument & 1 else session.reading_resumed(now),
    lambda session, argument, now: session.stop(now) if argument < 32 else None,
    lambda session, argument, now: (PartsOracle.opens, session.open_stream("g", now, stream_id=_stream_id(argument))),
    lambda session, argument, now: _nothing(session.write_stream(_stream_id(argument), argument, now)),
    lambda session, argument, now: session.end_stream(_stream_id(argument), now),
    lambda session, argument, now: session.abort_stream(_stream_id(argument), "enough", now),
    _says_of_stream,
    lambda session, argument, now: (
        PartsOracle.invokes,
        session.invoke("e", argument, now, timeout=argument >> 4 or None, invocation_id=("i", None)[argument & 1]),
    ),
    lambda session, argument, now: (
        PartsOracle.gave_up,
        _invocation_id(argument),
        session.cancel_invocation(_invocation_id(argument), now),
    ),
    _replies,
    lambda session, argument, now: Ask("set", session.set_group_state("g", {"a": "b"}, now), chain="own"),
    lambda session, argument, now: Ask("clear", session.clear_group_state("g", now), chain="own"),
    lambda session, argument, now: Ask("watch", session.subscribe_group_states("g", now), chain="all"),
    lambda session, argument, now: Ask("unwatch", session.unsubscribe_group_states("g", now), chain="all"),
    _says_of_states,
]

TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        frames_into_link,
        messages_into_session,
        operations_on_session,
        schedules_of_drivers,
        messages_into_service,
        requests_into_service,
        filters_on_connections,
        protobuf_into_session,
        protobuf_into_service,
    )
}
