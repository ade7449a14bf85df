"""The local service: the Web PubSub protocol on your machine, without a cloud account."""

from __future__ import annotations

from limpet._extras import extra
from limpet_core.service import EventHandler, EventListener

with extra("service"):
    from limpet.service._follow import follow_options
    from limpet.service._joining import ClusterRefused
    from limpet.service.app import ServiceApp, create_app
    from limpet.service.certificates import LocalCertificate
    from limpet.service.config import load_options
    from limpet.service.options import ClusterOptions, HubOptions, ServiceOptions
    from limpet.service.server import Service, serve
    from limpet.service.tokens import client_url, mint_client_token

__all__ = [
    "ClusterOptions",
    "ClusterRefused",
    "EventHandler",
    "EventListener",
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
