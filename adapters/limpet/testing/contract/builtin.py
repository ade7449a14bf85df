"""The clients that ship with Limpet, each with the event loop it runs on."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

from limpet import Options
from limpet.testing.contract.blocking import Blocking
from limpet.testing.contract.subject import Adapter

if TYPE_CHECKING:
    import limpet.anyio
    import limpet.asyncio
    import limpet.sync
    import limpet.trio
    from limpet.testing.contract.api import AsyncClientApi
    from limpet.testing.contract.blocking_api import BlockingClientApi

    # Type checkers compare them.
    ASYNC: tuple[type[AsyncClientApi], ...] = (limpet.asyncio.Client, limpet.trio.Client, limpet.anyio.Client)
    BLOCKING: tuple[type[BlockingClientApi], ...] = (limpet.sync.Client,)


def builtin() -> list[Adapter]:
    """Limpet's clients on every event loop that is installed here."""
    adapters = [
        Adapter("asyncio", _client("asyncio"), backend_options={"debug": True}),
        Adapter("anyio-asyncio", _client("anyio")),
        Adapter("sync", _client("sync"), subject=Blocking),
    ]
    if importlib.util.find_spec("uvloop") is not None:
        adapters.append(Adapter("asyncio-uvloop", _client("asyncio"), backend_options={"use_uvloop": True}))
    if importlib.util.find_spec("trio") is not None:
        adapters.append(Adapter("trio", _client("trio"), backend="trio"))
        adapters.append(Adapter("anyio-trio", _client("anyio"), backend="trio"))
    return adapters


def connectors() -> list[Adapter]:
    """Limpet's asyncio and blocking clients over every WebSocket library that is installed here, by ``connect=``."""
    libraries = {"websockets": "ssl", "aiohttp": "ssl", "picows": "ssl_context"}
    installed = {library: ssl for library, ssl in libraries.items() if importlib.util.find_spec(library) is not None}
    adapters = [Adapter(f"asyncio-{library}", _over("asyncio", library, ssl)) for library, ssl in installed.items()]
    if "websockets" in installed:
        over = _over("sync", "websockets", "ssl", "blocking_connector")
        adapters.append(Adapter("sync-websockets", over, subject=Blocking))
    return adapters


def _client(name: str) -> Callable[..., Any]:
    return importlib.import_module(f"limpet.{name}").Client  # type: ignore[no-any-return]


def _over(client: str, library: str, ssl_option: str, kind: str = "connector") -> Callable[..., Any]:
    connector = getattr(importlib.import_module(f"limpet.connect.{library}"), kind)

    def make(url: Any, options: Options, ssl: SSLContext | None = None, **named: Any) -> Any:
        return _client(client)(url, options, connect=connector(**({ssl_option: ssl} if ssl else {})), **named)

    return make
