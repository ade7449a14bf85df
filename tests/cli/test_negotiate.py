"""``--negotiate``: client URLs from an application, a fresh one for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.helpers.command_line import joined, limpet, running
from tests.helpers.waiting import until

from limpet import ConnectError
from limpet.cli import _negotiate
from limpet.testing import BackgroundService

Asked = tuple[str, str, str | None]
"""Method, path and the header Authorization of a request."""

Answering = Callable[[Asked], tuple[int, bytes]]


@contextlib.contextmanager
def application(answer: Answering) -> Iterator[tuple[str, list[Asked]]]:
    """An application that answers ``answer``: its URL, and what it was asked."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.command, self.path, self.headers["Authorization"]))
            status, content = answer(asked[-1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # an answer that is too long is not read to its end
                self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/negotiate", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def background() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


FORMS: dict[str, Callable[[str], bytes]] = {
    "object": lambda url: json.dumps({"url": url, "other": 1}).encode(),
    "string": lambda url: json.dumps(url).encode(),
    "plain": lambda url: f"{url}\n".encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_url_comes_in_several_forms(background: BackgroundService, form: str) -> None:
    with application(lambda _: (200, FORMS[form](background.direct_url()))) as (url, asked):
        sent = limpet("pub", "--negotiate", f"{url}?id=7", "room", "x", LIMPET_URL="ws://not.this.one/client/hubs/x")
    assert sent.returncode == 0, sent.stderr
    assert asked == [("GET", "/negotiate?id=7", None)]


def test_post_is_for_applications_that_do_not_answer_get(background: BackgroundService) -> None:
    def answer(asked: Asked) -> tuple[int, bytes]:
        return (405, b"") if asked[0] == "GET" else (200, FORMS["object"](background.direct_url()))

    with application(answer) as (url, asked):
        header = ["--negotiate-header", "Authorization: Bearer of the test"]
        sent = limpet("pub", *header, "room", "x", LIMPET_NEGOTIATE=url)
    assert sent.returncode == 0, sent.stderr
    assert asked == [(method, "/negotiate", "Bearer of the test") for method in ("GET", "POST")]


def test_each_new_connection_asks_again_and_a_recovery_does_not(background: BackgroundService) -> None:
    with (
        application(lambda _: (200, FORMS["object"](background.url("alice")))) as (url, asked),
        running("sub", "--negotiate", url, "--json", "negotiated") as process,
    ):
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        joined(process)
        background.cut()
        assert [json.loads(process.stdout.readline())["type"] for _ in range(2)] == ["recovering", "recovered"]
        assert len(asked) == 1
        background.drop(first["connectionId"], for_good=True)
        while (line := json.loads(process.stdout.readline()))["type"] != "connected":
            pass
        assert line["connectionId"] != first["connectionId"]
        assert len(asked) == 2
        until(lambda: line["connectionId"] in background.members("negotiated"))


@pytest.mark.parametrize(
    ("status", "content", "complaint"),
    [
        (401, b"who are you?", "answered with HTTP status 401 Unauthorized: who are you?"),
        (404, b"", "answered with HTTP status 404 Not Found"),
        (302, b"", "answered with HTTP status 302 Found"),
        (500, b"\x1b[31m" + b"x" * 1000, "answered with HTTP status 500 Internal Server Error: \\u001b[31mxxx"),
        (200, b"", 'without a client URL: expected {"url": "wss://..."} or the URL itself, not nothing'),
        (200, b"<html>", "or the URL itself, not <html>"),
        (200, b'{"url": "https://x"}', 'not {"url": "https://x"}'),
        (200, b'{"url": 3}', 'not {"url": 3}'),
        (200, b"[" * 30_000, "or the URL itself, not [[["),
        (200, b'"ws://' + b"x" * 100_000 + b'"', "or the URL itself, not "),
        (200, b"ws://127.0.0.1:1/client/hubs/x?access_token=secret", "127.0.0.1 port 1"),
    ],
)
def test_an_answer_without_a_url(status: int, content: bytes, complaint: str) -> None:
    with application(lambda _: (status, content)) as (url, _):
        failed = limpet("pub", "--negotiate", f"{url}?code=hidden", "room", "x")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert failed.stderr.count("\n") == 1
    assert complaint in failed.stderr
    assert "hidden" not in failed.stderr
    assert "secret" not in failed.stderr
    assert len(failed.stderr) < 1000


def test_an_application_that_is_not_there() -> None:
    failed = limpet("pub", "--negotiate", "http://user:hidden@127.0.0.1:1/negotiate?code=hidden", "room", "x")
    assert failed.returncode == 1
    assert "http://127.0.0.1:1/negotiate could not be asked for a client URL: Connection refused" in failed.stderr
    assert "hidden" not in failed.stderr


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection of a server, whoever has ended it."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_an_answer_that_drips_and_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; the limit is for all of them."""
    monkeypatch.setattr(_negotiate, "_TIMEOUT", 0.3)

    over = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"w")
                await writer.drain()
                await asyncio.sleep(0.02)
        await closed(writer)
        over.set()

    async def main() -> None:
        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with asyncio.timeout(30):
                with pytest.raises(ConnectError, match="no whole answer within"):
                    await _negotiate.negotiated(url, ())()
                await over.wait()

    asyncio.run(main())


def test_an_answer_is_not_unpacked() -> None:
    """A few bytes could become any number of them."""
    over = asyncio.Event()

    async def packed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"accept-encoding: identity\r\n" in head.lower()
        bomb = gzip.compress(b"x" * (8 << 20))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
        await closed(writer)
        over.set()

    async def main() -> None:
        async with await asyncio.start_server(packed, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            with pytest.raises(ConnectError, match="answered without a client URL") as refused:
                await _negotiate.negotiated(url, ())()
            assert "xxx" not in str(refused.value)
            await over.wait()

    asyncio.run(main())


@pytest.mark.parametrize("header", ["Authorization: Bearer hidden\nX: y", "Authorization: hidden\u20ac", "A b: hidden"])
def test_a_header_that_cannot_be_sent_is_not_shown(header: str) -> None:
    refused = limpet("sub", "--negotiate", "http://127.0.0.1:1/", "--negotiate-header", header, "room")
    assert refused.returncode == 2
    assert "--negotiate-header" in refused.stderr
    assert "hidden" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--negotiate", "/negotiate"], "--negotiate needs the URL of your application"),
        (["--negotiate", "ws://x/"], "--negotiate needs the URL of your application"),
        (["--negotiate", "http://x/", "--url", "ws://x/"], "--url and --negotiate are two places: give one of them"),
        (["--negotiate", "http://x/", "--negotiate-header", "x"], "--negotiate-header needs 'NAME: VALUE'"),
    ],
)
def test_what_is_no_place(arguments: list[str], complaint: str) -> None:
    refused = limpet("sub", *arguments, "room")
    assert refused.returncode == 2
    assert complaint in refused.stderr
