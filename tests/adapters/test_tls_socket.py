"""TLS for a library that reads in one thread while it writes in another."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trustme
from tests.helpers.waiting import LIMIT

from limpet.connect._tls_socket import TlsContext, TlsSocket

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@contextmanager
def connected(contexts: tuple[ssl.SSLContext, ssl.SSLContext], *, echo: bool) -> Iterator[TlsSocket]:
    """A socket whose peer echoes, or keeps still behind the handshake."""
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def peer() -> None:
        with suppress(OSError), contexts[0].wrap_socket(theirs, server_side=True) as stream:
            if not echo:
                over.wait(LIMIT)
            while data := stream.recv(65536):
                stream.sendall(data)

    thread = threading.Thread(target=peer)
    thread.start()
    ours.settimeout(LIMIT)
    made = TlsContext(contexts[1]).wrap_socket(ours, server_hostname="localhost")
    try:
        yield made
    finally:
        over.set()
        made.close()
        thread.join(LIMIT)
        theirs.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_and_read_at_once_arrives_whole(
    version: ssl.TLSVersion, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    contexts[1].minimum_version = contexts[1].maximum_version = version
    sent = b"".join(number.to_bytes(4, "big") for number in range(1_000_000))
    with connected(contexts, echo=True) as stream:

        def send() -> None:
            for start in range(0, len(sent), 300_000):
                stream.sendall(sent[start : start + 300_000])

        writer = threading.Thread(target=send)
        writer.start()
        pieces: list[bytes] = []
        missing = len(sent)
        while missing:
            pieces.append(stream.recv(65536))
            assert pieces[-1]
            missing -= len(pieces[-1])
        writer.join(LIMIT)
    assert b"".join(pieces) == sent


def test_a_read_from_a_peer_that_keeps_still_ends_when_another_thread_closes(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    read: list[bytes] = []
    with connected(contexts, echo=False) as stream:

        def receive() -> None:
            with suppress(OSError):
                read.append(stream.recv(65536))

        reader = threading.Thread(target=receive)
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
        stream.close()
        reader.join(LIMIT)
        assert not reader.is_alive()
    assert read in ([], [b""])


def test_a_write_to_a_peer_that_does_not_read_ends_when_another_thread_closes(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    failed: list[OSError] = []
    with connected(contexts, echo=False) as stream:

        def send() -> None:
            try:
                stream.sendall(b"x" * 10_000_000)
            except OSError as error:
                failed.append(error)

        writer = threading.Thread(target=send)
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        stream.close()
        writer.join(LIMIT)
        assert not writer.is_alive()
    assert failed


def test_a_handshake_ends_with_the_time_of_the_socket(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.1)
        with pytest.raises(TimeoutError):
            TlsSocket(ours, contexts[1], "localhost")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError, match="amid the handshake of TLS"):
            TlsSocket(ours, contexts[1], "localhost")


def test_a_certificate_for_another_name_is_told(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    ours, theirs = socket.socketpair()

    def peer() -> None:
        with suppress(OSError), contexts[0].wrap_socket(theirs, server_side=True):
            pass

    thread = threading.Thread(target=peer)
    thread.start()
    with ours, theirs, pytest.raises(ssl.SSLCertVerificationError):
        TlsSocket(ours, contexts[1], "another")
    thread.join(LIMIT)
