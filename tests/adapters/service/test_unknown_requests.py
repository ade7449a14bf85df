"""Requests that the service does not know: paths, methods, and previews of API versions."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.adapters.service.test_rest import TEXT, api_of
from tests.helpers.waiting import LIMIT

from limpet.service import Service, ServiceOptions, create_app


def test_an_unknown_operation_is_refused_and_the_connection_goes_on() -> None:
    """A path or method that is unknown: an error that names it, also for a request with a body; then the next one."""

    async def main() -> None:
        async with Service() as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            host = f"127.0.0.1:{service.port}"

            async def ask(method: str, path: str, body: bytes = b"") -> tuple[int, str]:
                head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                async with asyncio.timeout(LIMIT):
                    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
                    found = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
                    length = 0 if found is None or method == "HEAD" else int(found[1])
                    return int(answer.split()[1]), (await reader.readexactly(length)).decode()

            for method, path, body, status, told in (
                ("POST", "/api/hubs/chat/:fly", b"x" * 100_000, 404, "POST /api/hubs/chat/:fly"),
                ("GET", "/api/hubs/chat/:send", b"", 405, "GET /api/hubs/chat/:send"),
                ("BREW", "/api/hubs/chat/:send", b"x", 405, "BREW /api/hubs/chat/:send"),
                ("PATCH", "/api/hubs/chat", b"{}", 404, "PATCH /api/hubs/chat"),
                ("GET", "/api/%1b%E2%80%AEx", b"", 404, "GET /api/%1b%E2%80%AEx"),
                ("HEAD", "/api/hubs/chat/nothing", b"", 404, ""),
                ("POST", "/hubs/chat/:send", b"x", 404, "below /api"),
                ("GET", "/clients/hubs/chat", b"", 404, "/client/hubs/{hub}"),
                ("GET", "/clients/mqtt/hubs/chat", b"", 501, "has no MQTT"),
            ):
                answered, text = await ask(method, path, body)
                assert (answered, told in text) == (status, True), (method, path, text)
            assert (await ask("GET", "/api/health"))[0] == 200
            writer.close()

    asyncio.run(main())


def test_an_unknown_path_is_refused_with_a_text_under_any_asgi_server() -> None:
    async def main() -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": "/clients/mqtt/hubs/chat",
            "raw_path": b"/clients/mqtt/hubs/chat",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        await create_app(ServiceOptions())(scope, receive, send)
        assert sent[0]["status"] == 501
        assert b"/client/hubs/{hub}" in sent[1]["body"]
        scope |= {"path": "/clients", "raw_path": b"/clients"}
        await create_app(ServiceOptions())(scope, receive, send)
        assert sent[2]["status"] == 404
        assert b"/client/hubs/{hub}" in sent[3]["body"]

    asyncio.run(main())


def test_a_preview_is_answered_like_the_version_it_precedes_and_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with api_of() as api:
            for version in ("2024-08-01-preview", "2024-08-01-Preview", "2021-05-01-preview", "2024-08-01-preview"):
                sent = await api("POST", f"/hubs/chat/:send?api-version={version}", **TEXT)
                assert sent.status_code == 202
            for version in ("2024-12-01", "2031-01-01", "2024-14-01-preview"):
                await api("POST", f"/hubs/chat/:send?api-version={version}", **TEXT)
            assert [record.getMessage() for record in caplog.records if record.name == "limpet.service"] == [
                "requests of the API version 2024-08-01-preview are answered like those of 2024-12-01",
                "requests of the API version 2021-05-01-preview are answered like those of 2021-10-01",
            ]
            caplog.clear()
            for day in range(1, 29):
                await api("POST", f"/hubs/chat/:send?api-version=2023-01-{day:02}-preview", **TEXT)
            assert len(caplog.records) == 18  # a peer cannot fill the log, or the memory

    with caplog.at_level("WARNING"):
        asyncio.run(main())
