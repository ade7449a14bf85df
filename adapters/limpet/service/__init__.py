"""The local service: speaks the Web PubSub protocol on your machine, without a cloud account."""

from __future__ import annotations

from limpet._extras import extra
from limpet_core.service import EventHandler

with extra("service"):
    from .app import ServiceApp, create_app
    from .config import load_options
    from .options import HubOptions, ServiceOptions
    from .server import Service, serve
    from .tokens import client_url, mint_client_token

__all__ = [
    "EventHandler",
    "HubOptions",
    "Service",
    "ServiceApp",
    "ServiceOptions",
    "client_url",
    "create_app",
    "load_options",
    "mint_client_token",
    "serve",
]
