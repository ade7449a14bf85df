"""One of Limpet's clients and a JavaScript client that exchange streams."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.interop.clients import JavaScriptClient
from tests.interop.events import Events
from tests.interop.own import Fragment, OwnClient
from tests.interop.stage import ROLES, Stage

from limpet.testing.network import ChaosProxy

ALL_TYPES: list[Fragment] = [
    ("text", "one"),
    ("text", ""),
    ("text", 'grün \U0001f600 \\ "\u2028'),
    ("json", {"two": [2, None, True, 0.5]}),
    ("json", "text"),
    ("json", 0),
    ("binary", b"\x00\xff"),
    ("binary", b""),
    ("text", "x" * 70_000),
]


def arrived(events: Events, stream_id: str) -> list[Fragment]:
    """What a client has of a stream, whose fragments are numbered from 1."""
    fragments = [fragment for fragment in events.of("fragment") if fragment["streamId"] == stream_id]
    assert [fragment["number"] for fragment in fragments] == list(range(1, len(fragments) + 1))
    return [(fragment["dataType"], payload(fragment)) for fragment in fragments]


def payload(fragment: dict[str, Any]) -> Any:
    return base64.b64decode(fragment["data"]) if fragment["dataType"] == "binary" else fragment["data"]


def ends(events: Events, count: int) -> dict[str, Any]:
    """Wait for the ends of so many streams; their errors, by the streams' ids."""
    told = events.wait("stream-end", count)
    assert len(told) == count, told
    return {end["streamId"]: end["error"] for end in told}


def numbers(*given: int) -> list[Fragment]:
    return [("json", number) for number in given]


@dataclass
class Pair:
    """One of Limpet's clients and a JavaScript client, both in the group; each has a proxy of its own."""

    stage: Stage
    own: OwnClient
    js: JavaScriptClient

    @property
    def both(self) -> tuple[OwnClient | JavaScriptClient, ...]:
        return (self.own, self.js)

    def proxies(self, whose: str) -> list[ChaosProxy]:
        backend = self.stage.backend
        return {"own": [backend.detour], "js": [backend.proxy], "both": [backend.detour, backend.proxy]}[whose]

    def call(self, function: Callable[[], Any]) -> Any:
        return self.stage.background.call(function)

    def write_js(self, stream_id: str, *fragments: Fragment) -> list[Future[Any]]:
        return [future for kind, data in fragments for future in self.js.write(stream_id, data, data_type=kind)]

    def lose(self, whose: str) -> None:
        """Cut clients off until `resume`."""

        def cut() -> None:
            for proxy in self.proxies(whose):
                proxy.stall()
                proxy.cut(reset=False)

        self.call(cut)
        for client in self.both:
            if whose in (self.side(client), "both"):
                self.stage.backend.until(partial(self.cut_off, client.connection_id))

    def cut_off(self, connection_id: str) -> bool:
        """Whether a connection has no transport."""
        return not self.stage.backend.connected(connection_id)

    def swallow_answers(self, whose: str) -> None:
        """Let what clients send arrive, and cut the connection that carries the next bytes to them."""
        for proxy in self.proxies(whose):
            self.call(partial(proxy.cut_after, 0, "to_client", reset=False))

    def resume(self) -> None:
        """Let everything pass again."""
        for proxy in self.proxies("both"):
            self.call(proxy.heal)

    def side(self, client: OwnClient | JavaScriptClient) -> str:
        return "own" if client is self.own else "js"


def open_js(stage: Stage, user_id: str = "js", **options: Any) -> JavaScriptClient:
    url = stage.service().client_url(user_id, roles=options.pop("roles", ROLES))
    client = stage.open("js", url=url, over_proxy=True, **options)
    assert isinstance(client, JavaScriptClient)
    return client
