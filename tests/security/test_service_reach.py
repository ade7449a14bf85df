"""What is for this machine only is not for what a proxy on this machine passes on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.security.servers import KEY, Place, exchange, read_answer, request, signed, with_place

from limpet.service import ServiceOptions

LOCAL_ONLY = ["/", "/trace/main.js", "/trace/state", "/trace/feed", "/metrics", "/negotiate"]

FORWARDED = [
    ("Forwarded", "for=203.0.113.9"),
    ("Forwarded", ""),
    ("forwarded", "for=127.0.0.1;host=localhost"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X_Forwarded_For", "127.0.0.1"),
    ("X-Forwarded-Host", "localhost"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-Server", "front"),
    ("X-Forwarded-Prefix", "/x"),
    ("X-Forwarded", "1"),
    ("X-Forwarder-For", "203.0.113.9"),
    ("X-Original-Forwarded-For", "203.0.113.9"),
    ("X-Original-Host", "example"),
    ("X-Real-IP", "127.0.0.1"),
    ("X-Client-IP", "203.0.113.9"),
    ("Client-IP", "203.0.113.9"),
    ("X-Cluster-Client-IP", "203.0.113.9"),
    ("X-Remote-Addr", "203.0.113.9"),
    ("X-ProxyUser-Ip", "203.0.113.9"),
    ("WL-Proxy-Client-IP", "203.0.113.9"),
    ("True-Client-IP", "203.0.113.9"),
    ("CF-Connecting-IP", "203.0.113.9"),
    ("CF-Connecting-IPv6", "2001:db8::1"),
    ("CF-Ray", "1"),
    ("Fastly-Client-IP", "203.0.113.9"),
    ("Fly-Client-IP", "203.0.113.9"),
    ("X-Appengine-User-IP", "203.0.113.9"),
    ("X-Azure-ClientIP", "203.0.113.9"),
    ("X-Azure-SocketIP", "203.0.113.9"),
    ("X-Source-IP", "203.0.113.9"),
    ("X-SSL-Client-Verify", "SUCCESS"),
    ("Front-End-Https", "on"),
    ("X-Scheme", "https"),
    ("X-Varnish", "1"),
    ("X-Envoy-External-Address", "203.0.113.9"),
    ("X-Amzn-Trace-Id", "Root=1"),
    ("X-ARR-LOG-ID", "1"),
    ("X-NginX-Proxy", "true"),
    ("Via", "1.1 front"),
    ("via", "1.1 vegur"),
    ("CDN-Loop", "cloudflare"),
]

# What browsers, scripts and the official clients send themselves.
ORDINARY = [
    ("User-Agent", "Mozilla/5.0"),
    ("Accept", "*/*"),
    ("Accept-Language", "de"),
    ("Accept-Encoding", "gzip"),
    ("Cookie", "via=1; x-forwarded-for=2"),
    ("Referer", "http://localhost/x-forwarded-for"),
    ("Sec-Fetch-Site", "none"),
    ("Sec-CH-UA-Platform", "Linux"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Priority", "u=0, i"),
    ("DNT", "1"),
    ("X-Requested-With", "fetch"),
    ("x-ms-client-request-id", "1"),
    ("X-Request-Id", "1"),
    ("traceparent", "00-1-1-01"),
    ("Authorization", "Bearer x"),
    ("Content-Type", "text/plain"),
    ("Connection", "keep-alive"),
]

every_server = pytest.mark.parametrize("style", ["service", "application", "mounted with an endpoint"])


async def status_of(place: Place, target: str, *headers: tuple[str, str], version: str = "1.1") -> int:
    """Return the status of an answer that may go on for ever."""
    host = ("Host", f"localhost:{place.port}")
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    try:
        writer.write(request("GET", place.prefix + target, [host, *headers], version=version))
        async with asyncio.timeout(20):
            return (await read_answer(reader, without_body=True)).status
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@every_server
@pytest.mark.parametrize("target", LOCAL_ONLY)
def test_a_header_that_proxies_add_means_somebody_else(style: str, target: str) -> None:
    async def scenario(place: Place) -> None:
        for header in FORWARDED:
            assert await status_of(place, target, header) == 403, header
            assert await status_of(place, target, *ORDINARY, header) == 403, header
        assert place.watchers() == 0
        # nginx speaks it to what is behind it, and adds nothing of its own accord.
        assert await status_of(place, target, version="1.0") == 403
        for header in ORDINARY:
            assert await status_of(place, target, header) == 200, header
        assert await status_of(place, target, *ORDINARY) == 200

    with_place(scenario, style)


@every_server
def test_what_proxies_add_does_not_keep_out_who_may_come_from_anywhere(style: str) -> None:
    async def scenario(place: Place) -> None:
        for target in LOCAL_ONLY:
            assert await status_of(place, target, *FORWARDED) == 200
        send = "/api/hubs/chat/:send"
        headers = [("Host", place.host), *FORWARDED, ("Authorization", f"Bearer {signed(place.endpoint + send)}")]
        head = [*headers, ("Content-Type", "text/plain")]
        answer = await exchange(place.port, request("POST", place.prefix + send, head, b"x"))
        assert answer.status == 202

    with_place(scenario, style, ServiceOptions(access_key=KEY, trace=True, negotiate=True))


@every_server
def test_nothing_makes_another_machine_this_one(style: str) -> None:
    """uvicorn believes a proxy on this machine about the client's address; the header gives it away all the same."""

    async def scenario(place: Place) -> None:
        for target in LOCAL_ONLY:
            for value in ("127.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9, 127.0.0.1", "::1", "localhost", ""):
                assert await status_of(place, target, ("X-Forwarded-For", value)) == 403, value

    with_place(scenario, style, proxy_headers=True, forwarded_allow_ips="*")
