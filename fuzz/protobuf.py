"""What is fuzzed of the protobuf subprotocols, at both ends; see targets.py."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.oracle import Oracle
from fuzz.service import new_service

from limpet import (
    JSON,
    RELIABLE_PROTOBUF,
    Backoff,
    GroupMessage,
    Options,
    Session,
    State,
)
from limpet_core.protocol import json
from limpet_core.protocol.messages import Broken
from limpet_core.protocol.protobuf import codec
from limpet_core.protocol.protobuf.decoding import decode_whole
from limpet_core.service import Binary, ClientGrant
from limpet_core.service.wire import protobuf_to_client

URL = "ws://service.test/client/hubs/chat?access_token=secret"
OPTIONS = Options(
    protocol=RELIABLE_PROTOBUF,
    reconnect=Backoff(limit=3),
    max_message_size=5000,
    keepalive_interval=None,
    keepalive_timeout=None,
)
HELLO = protobuf_to_client.connected("c1", None, "t")


def pieces(data: bytes) -> Iterator[bytes]:
    """The messages in an input: each after a byte that is its length."""
    at = 0
    while at < len(data):
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]


def protobuf_into_session(data: bytes) -> None:
    """Any messages of a service: the common ones are read as Google's parser reads them, nothing raises, they come in
    order and once, and stop() still stops."""
    session = Session(OPTIONS, random=lambda: 0.5)
    session.start(0.0)
    session.url_ready(URL, 0.0)
    session.connected(0.0)
    session.receive_binary(HELLO, 0.0)
    oracle = Oracle(reliable=True)
    oracle.started()
    for number, message in enumerate(pieces(data)):
        now = float(number)
        decoded, expected = codec.decode(message), decode_whole(message)
        assert decoded == expected or repr(decoded) == repr(expected), "nan is not equal to itself"
        assert codec.show(message, received=True)
        session.receive_binary(message, now)
        oracle.saw_all(session.events())
        for said in session.messages_to_send():
            assert codec.show(said, received=False)
        if session.dial is not None:
            session.connected(now)
        session.wake(now)
        assert session.deadline > now
    session.stop(1e6)
    session.disconnected(1e6)
    oracle.saw_all(session.events())
    assert (session.state, oracle.running) == (State.STOPPED, False)


def protobuf_into_service(data: bytes) -> None:
    """Any messages of a client: nothing raises, and clients of both kinds can read all there is to hear, the same."""
    service = new_service()
    grant = ClientGrant(None, ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"), ("g",))
    members = [service.connect("chat", protocol, grant, 0.0) for protocol in (JSON, RELIABLE_PROTOBUF)]
    client = service.connect("chat", RELIABLE_PROTOBUF, grant, 0.0)
    heard: list[list[object]] = [[], []]

    def drain() -> None:
        for transport in service.transports_with_output():
            for message in transport.messages_to_send():
                decode = codec.decode if isinstance(message, Binary) else json.decode
                decoded = decode(message)
                assert not isinstance(decoded, Broken), "our own client can read it"
                assert isinstance(message, Binary) == (transport is not members[0])
                if transport in members and isinstance(decoded, GroupMessage):
                    seen = (decoded.group, decoded.data_type, repr(decoded.data), decoded.metadata)
                    heard[members.index(transport)].append(seen)

    drain()
    for number, message in enumerate(pieces(data)):
        service.receive(client, message, float(number))
        drain()
        service.wake(float(number))
        drain()
        if client.close is not None:
            client = service.connect("chat", RELIABLE_PROTOBUF, grant, float(number))
            drain()
    if all(member.close is None for member in members):
        assert heard[0] == heard[1]
