"""Pipeline: TLS and tunnels over bytes in memory, and what reading costs."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import frames
from tests.helpers.background import running
from tests.helpers.clients import CLIENTS, talk
from tests.helpers.driving import QUIET, encoded, hello
from tests.helpers.echo import Echo, client_context, server_context
from tests.helpers.scripted import Message, Peer, group_message
from tests.helpers.waiting import LIMIT

from limpet import ConnectError, GroupMessage, Link, Options, Recovering, Session, State, Stopped
from limpet._transports.pipeline import Pipeline

AUTHORITY = trustme.CA()
SERVER = server_context(AUTHORITY.issue_cert("service.test"))
URL = "wss://service.test/client/hubs/chat?access_token=SECRET"
PROXY = "http://ann:SECRET@proxy.test:3128"
TUNNEL = b"HTTP/1.1 200 OK\r\n\r\n"


class CountingObject(ssl.SSLObject):
    """Notes how much each read asks for."""

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        self.context.reads.append(len)  # type: ignore[attr-defined]
        return super().read(len, buffer)


class CountingContext(ssl.SSLContext):
    """Its connections note their reads in one list."""

    sslobject_class = CountingObject
    reads: list[int]


def counting_context() -> CountingContext:
    context = CountingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.reads = []
    AUTHORITY.configure_trust(context)
    return context


class Pair:
    """A Pipeline and its session, and the service's end, with TLS or without; bytes are moved by hand."""

    def __init__(self, *, url: str = URL, proxy: str | None = None, server: ssl.SSLContext = SERVER) -> None:
        self.now = 100.0
        self.session = Session(Options(**QUIET), random=lambda: 0.5)  # type: ignore[arg-type]
        self.session.start(self.now)
        self.session.url_ready(url, self.now)
        assert self.session.dial is not None
        self.dial = self.session.dial
        self.context = counting_context()
        link = Link(self.session, self.dial, random_bytes=bytes)
        self.wire = Pipeline(link, self.context, proxy if proxy else False)
        self.address = self.wire.address()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.service: ssl.SSLObject | None = None
        if url.startswith("wss"):
            self.service = server.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def move(self, chunks: Iterable[bytes]) -> None:
        """Give the client these bytes, piece by piece."""
        for chunk in chunks:
            self.wire.receive_data(chunk, self.now)

    def shake(self) -> None:
        """The TLS handshake."""
        assert self.service is not None
        for _ in range(4):
            self.incoming.write(self.wire.data_to_send())
            with suppress(ssl.SSLWantReadError):
                self.service.do_handshake()
            self.move([self.outgoing.read()] if self.outgoing.pending else [])

    def plain(self) -> bytes:
        """What the client has sent, decrypted."""
        assert self.service is not None
        self.incoming.write(self.wire.data_to_send())
        data = b""
        try:
            while piece := self.service.read(1 << 16):
                data += piece
        except ssl.SSLWantReadError:
            pass
        return data

    def seal(self, *records: bytes) -> bytes:
        """What the service sends, a TLS record each."""
        assert self.service is not None
        for record in records:
            self.service.write(record)
        return self.outgoing.read()

    def upgrade(self) -> Pair:
        """Bring the session to where it stands."""
        self.shake()
        self.move([self.seal(frames.accept(self.plain()) + frames.text(encoded(hello("c1"))))])
        assert self.session.state is State.CONNECTED
        self.session.events()
        self.context.reads.clear()
        return self

    def error(self) -> ConnectError:
        (*_, stopped) = self.session.events()
        assert isinstance(stopped, Stopped)
        assert isinstance(stopped.error, ConnectError)
        return stopped.error

    def data(self) -> list[object]:
        return [event.data for event in self.session.events() if isinstance(event, GroupMessage)]


def message(number: int, text: str = "") -> bytes:
    return frames.text(encoded(group_message(number, text or str(number))))


# ---- What reading costs


def test_all_records_of_a_segment_are_delivered_in_one_pass() -> None:
    pair = Pair().upgrade()
    pair.move([pair.seal(*map(message, range(1, 201)))])
    assert pair.data() == [str(number) for number in range(1, 201)]
    assert len(pair.context.reads) == 200  # one for each, and none to be told that there are no more


def test_a_record_that_is_cut_is_delivered_with_its_rest_and_holds_up_nothing() -> None:
    pair = Pair().upgrade()
    sealed = pair.seal(*map(message, range(1, 4)))
    pair.move([sealed[:-1]])
    assert pair.data() == ["1", "2"]
    pair.move([sealed[-1:]])
    assert pair.data() == ["3"]


def test_no_read_asks_for_more_than_a_record() -> None:
    pair = Pair().upgrade()
    pair.move([pair.seal(message(1), message(2, "x" * 100_000))])
    assert pair.data() == ["1", "x" * 100_000]
    assert max(pair.context.reads) == 16 * 1024


def test_a_short_record_needs_little_memory() -> None:
    pair = Pair().upgrade()
    sealed = [pair.seal(message(number)) for number in range(1, 101)]
    pair.move(sealed[:50])
    pair.data()
    tracemalloc.start()
    try:
        pair.move(sealed[50:])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pair.data()) == 50
    assert peak < 64 * 1024


class Burst(Echo):
    """Answers a publication with 200 messages at once, each in a TLS record of its own.

    Attributes:
        begun: set as soon as it begins.
        done: set when all of them are on their way.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(tls)
        self.begun, self.done = threading.Event(), threading.Event()
        self.on_request = self._burst

    def _burst(self, peer: Peer, message: Message) -> None:
        if message["type"] == "sendToGroup":
            self.begun.set()
            for number in range(1, 201):
                peer.send(**group_message(number, str(number)))
        peer.ack(message)
        if message["type"] == "sendToGroup":
            self.done.set()


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_drains_what_is_there_in_one_pass(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    tls = server_context(authority.issue_cert("127.0.0.1"))
    calls: list[int] = []
    receive_data = Pipeline.receive_data
    with running(lambda: Burst(tls)) as service:

        def receive(wire: Pipeline, data: bytes, now: float) -> None:
            if service.begun.is_set():  # let nothing pass until all of it is there
                assert service.done.wait(LIMIT)
                calls.append(len(data))
            receive_data(wire, data, now)

        monkeypatch.setattr(Pipeline, "receive_data", receive)
        heard = talk(client, service.url, count=200, ssl=client_context(authority))
    assert heard == [str(number) for number in range(1, 201)]
    # What had arrived when it was held up, and the rest, in as many pieces as the system makes of it: a few.
    assert len(calls) < 20, calls


# ---- Any bytes in any pieces


@given(data=st.data())
def test_any_chunking_through_a_proxy_and_tls_is_the_same(data: st.DataObject) -> None:
    pair = Pair(proxy=PROXY)
    assert pair.address == ("proxy.test", 3128)

    def cut(stream: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        return [piece for piece in map(stream.__getitem__, map(slice, [0, *cuts], [*cuts, len(stream)])) if piece]

    assert pair.wire.data_to_send().startswith(b"CONNECT service.test:443 HTTP/1.1\r\n")
    pair.move(cut(TUNNEL))
    pair.shake()
    pair.move(cut(pair.seal(frames.accept(pair.plain()), frames.text(encoded(hello("c1"))))))
    texts = data.draw(st.lists(st.text(max_size=300) | st.just("long" * 10_000), max_size=5))
    pair.move(cut(pair.seal(*[message(number, text or "?") for number, text in enumerate(texts, 1)])))
    assert pair.data() == [text or "?" for text in texts]


# ---- Tunnels


def test_nothing_but_the_request_goes_out_before_the_tunnel_stands() -> None:
    pair = Pair(proxy=PROXY)
    request = pair.wire.data_to_send()
    assert request.startswith(b"CONNECT ")
    assert request.endswith(b"\r\n\r\n")
    assert pair.dial.waits_for == "the proxy proxy.test port 3128"
    pair.move([TUNNEL[:-2]])
    assert pair.wire.data_to_send() == b""
    pair.move([TUNNEL[-2:]])
    assert pair.wire.data_to_send().startswith(b"\x16\x03")  # ClientHello
    assert pair.dial.waits_for is None  # the proxy has done its part: it is the service now


def test_what_comes_with_the_proxys_answer_is_the_services() -> None:
    pair = Pair(url=URL.replace("wss:", "ws:"), proxy=PROXY)
    assert pair.wire.data_to_send().startswith(b"CONNECT service.test:80 ")
    pair.move([TUNNEL])
    handshake = pair.wire.data_to_send()
    pair.move([frames.accept(handshake) + frames.text(encoded(hello("c1"))) + message(1)])
    assert pair.data() == ["1"]


def test_a_tunnel_that_was_not_opened_gets_no_farewell() -> None:
    pair = Pair(proxy=PROXY)
    pair.wire.data_to_send()
    pair.session.stop(pair.now)
    assert pair.wire.close_notify() == b""


# ---- The end of TLS


def test_goodbye_in_both_layers() -> None:
    pair = Pair().upgrade()
    pair.session.stop(pair.now)
    assert frames.parse_client_frames(pair.plain()) == [(frames.CLOSE, b"\x03\xe8")]
    pair.move([pair.seal(frames.close(1000))])
    assert pair.session.state is State.STOPPED
    assert pair.service is not None
    pair.incoming.write(pair.wire.close_notify())
    assert pair.service.read() == b""  # close_notify
    assert pair.wire.close_notify() == b""


def test_a_close_notify_without_a_close_frame_is_a_lost_connection() -> None:
    pair = Pair().upgrade()
    assert pair.service is not None
    last = pair.seal(message(1))
    with pytest.raises(ssl.SSLWantReadError):
        pair.service.unwrap()
    pair.move([last + pair.outgoing.read()])
    first, recovering = pair.session.events()
    assert isinstance(first, GroupMessage)
    assert isinstance(recovering, Recovering)
    assert recovering.reason == "the peer closed the connection"


def test_a_broken_record_is_a_lost_connection_and_the_peer_is_told() -> None:
    pair = Pair().upgrade()
    good, bad = pair.seal(message(1)), bytearray(pair.seal(message(2)))
    bad[-1] ^= 1
    pair.move([good + bad])
    first, recovering = pair.session.events()
    assert isinstance(first, GroupMessage)
    assert isinstance(recovering, Recovering)
    assert "TLS failed: " in recovering.reason
    assert pair.wire.close_notify()[:1] == b"\x17"  # an alert, which TLS 1.3 hides among data
    pair.move([pair.seal(message(3)), b""])
    assert pair.session.events() == []


def test_what_is_sent_when_the_peer_has_gone_is_dropped() -> None:
    pair = Pair().upgrade()
    pair.wire.close_notify()
    pair.session.join_group("g", pair.now)
    assert pair.wire.data_to_send() == b""


@pytest.mark.parametrize(
    ("begun", "text"),
    [
        (b"", "the TLS handshake was cut short: the peer closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS failed: WRONG_VERSION_NUMBER"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "TLS failed: SSLV3_ALERT_HANDSHAKE_FAILURE"),
    ],
)
def test_a_handshake_that_fails_names_the_host(begun: bytes, text: str) -> None:
    pair = Pair()
    pair.wire.data_to_send()
    pair.move([begun, b""] if begun else [b""])
    assert str(pair.error()).startswith(f"cannot connect to service.test port 443: {text}")


REFUSED, NO_ROUTE = os.strerror(errno.ECONNREFUSED), os.strerror(errno.EHOSTUNREACH)


def test_every_address_that_was_tried_is_told_once_and_in_the_same_words() -> None:
    refused = OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 1, 0, 0)")
    again = OSError(errno.ECONNREFUSED, "Error connecting to ('127.0.0.1', 1): Connection refused")
    no_route = OSError(errno.EHOSTUNREACH, "No route to host")
    failed = OSError("all attempts failed")
    for error, cause, text in (
        (refused, None, REFUSED),
        (failed, refused, REFUSED),
        (failed, ExceptionGroup("", [refused, again, no_route]), f"{REFUSED}; {NO_ROUTE}"),
        (OSError(f"Multiple exceptions: {refused}, {again}, {no_route}"), None, f"{REFUSED}; {NO_ROUTE}"),
        (failed, None, "all attempts failed"),
        (socket.gaierror(errno.ENOEXEC, "no such name"), None, "no such name"),
        (OSError(999_999, "a number that nobody knows"), None, "a number that nobody knows"),
        (OSError(errno.ENOENT, "no such file", "ca.pem"), None, f"[Errno {errno.ENOENT}] no such file: 'ca.pem'"),
        (TimeoutError(), None, "TimeoutError"),
    ):
        pair = Pair()
        error.__cause__ = cause
        pair.wire.failed(error, pair.now)
        assert str(pair.error()) == f"cannot connect to service.test port 443: {text}"
