"""Limpet: a Web PubSub client that recovers dropped connections.

Applications start with ``from limpet.asyncio import Client``, or the same from ``limpet.trio``, ``limpet.anyio`` or
``limpet.sync``, which is for code that blocks. This package has the names that all clients share: events such as
:class:`GroupMessage`, errors such as :class:`SendError`, and :class:`Options`.

For tests and development, ``limpet.service`` is the local service and ``limpet.testing`` has fixtures for pytest; the
command ``limpet`` (extra ``cli``) starts the service, publishes and subscribes.

For another event loop or transport there is :class:`Session`, with a :class:`Link` for each connection over bytes, or a
:class:`Channel` for each connection over a WebSocket library.
"""

from types import FunctionType
from typing import TYPE_CHECKING, Any

import limpet_core
from limpet._instrument import ClientInfo, Instrument, LifecycleEvent, Observation, OutgoingRequest
from limpet._public import claim
from limpet._version import __version__
from limpet_core import *  # noqa: F403 - listed in its __all__

__all__ = ["ClientInfo", "Instrument", "LifecycleEvent", "Observation", "OutgoingRequest", "__version__"]
__all__ += limpet_core.__all__

_MODULES = {"anyio", "asyncio", "connect", "opentelemetry", "service", "sync", "testing", "trio"}

if not TYPE_CHECKING:  # type checkers would accept every name

    def __getattr__(name: str) -> Any:
        if name == "Client":  # the text of an AttributeError would not be shown
            raise ImportError(
                "limpet has a Client for each event loop: from limpet.asyncio import Client, or limpet.trio, "
                "limpet.anyio, or limpet.sync without a loop"
            )
        hint = f": write import {__name__}.{name}" if name in _MODULES else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


claim(__name__, *(each for each in map(globals().get, __all__) if isinstance(each, type | FunctionType)))
