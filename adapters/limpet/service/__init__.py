"""The local service: the Web PubSub protocol on your machine, without a cloud account.

A name is imported from its module when it is first asked for: a program that only makes URLs and tokens does not wait
for a server.
"""

from __future__ import annotations

from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any

from limpet._extras import extra, require

with extra("service"):
    require("jwt", "starlette", "uvicorn", "websockets")

if TYPE_CHECKING:
    from limpet.service._follow import follow_options
    from limpet.service._joining import ClusterRefused
    from limpet.service.app import ServiceApp, create_app
    from limpet.service.certificates import LocalCertificate
    from limpet.service.config import load_options
    from limpet.service.options import ClusterOptions, HubOptions, ServiceOptions
    from limpet.service.server import Service, serve
    from limpet.service.tokens import client_url, mint_client_token
    from limpet_core.service import Answer, EventHandler, EventListener, EventSettings
else:
    _MODULES = {
        "Answer": "limpet_core.service",
        "ClusterOptions": "limpet.service.options",
        "ClusterRefused": "limpet.service._joining",
        "EventHandler": "limpet_core.service",
        "EventListener": "limpet_core.service",
        "EventSettings": "limpet_core.service",
        "HubOptions": "limpet.service.options",
        "LocalCertificate": "limpet.service.certificates",
        "Service": "limpet.service.server",
        "ServiceApp": "limpet.service.app",
        "ServiceOptions": "limpet.service.options",
        "client_url": "limpet.service.tokens",
        "create_app": "limpet.service.app",
        "follow_options": "limpet.service._follow",
        "load_options": "limpet.service.config",
        "mint_client_token": "limpet.service.tokens",
        "serve": "limpet.service.server",
    }
    _PARTS = {"app", "certificates", "cluster", "config", "options", "server", "tokens"}
    # Threads that import parts of a package at once wait for each other, and Python then gives one of them a module
    # that is not complete. No part of this package asks for a name here.
    _LOCK = RLock()

    def __getattr__(name: str) -> Any:
        if name not in _MODULES and name not in _PARTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with _LOCK, extra("service"):
            if name in _PARTS:
                return import_module(f"{__name__}.{name}")
            # Not kept: it may be what a test has put there for a moment.
            return getattr(import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_PARTS})


__all__ = [
    "Answer",
    "ClusterOptions",
    "ClusterRefused",
    "EventHandler",
    "EventListener",
    "EventSettings",
    "HubOptions",
    "LocalCertificate",
    "Service",
    "ServiceApp",
    "ServiceOptions",
    "client_url",
    "create_app",
    "follow_options",
    "load_options",
    "mint_client_token",
    "serve",
]
