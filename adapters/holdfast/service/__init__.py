"""The local service: speaks the Web PubSub protocol on your machine, without a cloud account."""

from __future__ import annotations

from .app import create_app
from .options import HubOptions, ServiceOptions
from .server import Service, serve
from .tokens import client_url, mint_client_token

__all__ = [
    "HubOptions",
    "Service",
    "ServiceOptions",
    "client_url",
    "create_app",
    "mint_client_token",
    "serve",
]
