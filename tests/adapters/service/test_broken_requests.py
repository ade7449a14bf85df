"""Requests that are no HTTP, or that break off: an answer or an end, and no line in the log."""

from __future__ import annotations

import asyncio
import logging
import time

import jwt
import pytest
from tests.helpers.waiting import LIMIT

from limpet.service import Service, ServiceOptions

KEY = "k" * 40
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def head(service: Service, *, signed: bool) -> bytes:
    path = "/api/hubs/chat/:send"
    claims = {"aud": f"{service.endpoint}{path}", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, KEY, "HS256") if signed else "none"
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: text/plain\r\n"
        f"Authorization: Bearer {token}\r\n"
    ).encode()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("end", [b"zz\r\n", b"5\r\nab", b""], ids=["no chunk", "half a chunk", "nothing"])
def test_a_body_that_breaks_off(signed: bool, pause: bool, end: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Service(ServiceOptions(access_key=KEY)) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(head(service, signed=signed) + CHUNKED)
            if pause:  # the application has the request
                await asyncio.sleep(0.05)
            writer.write(end)
            writer.write_eof()
            async with asyncio.timeout(LIMIT):
                answer = await reader.read()
            assert answer.count(b"HTTP/1.1 ") <= 1
            assert not answer or answer[9:12] in (b"400", b"401")
            writer.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert caplog.messages == []


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01" + b"\xff" * 100, b"x" * 100_000, b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nHost:a b\r\n\r\n"],
)
def test_what_is_no_request(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Service() as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(request_)
            writer.write_eof()
            async with asyncio.timeout(LIMIT):
                assert (await reader.read(12)) == b"HTTP/1.1 400"
            writer.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert caplog.messages == []
