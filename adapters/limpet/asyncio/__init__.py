"""Limpet for asyncio: ``from limpet.asyncio import Client``."""

from limpet._clients.streams import EventStream
from limpet.asyncio.client import Client

__all__ = ["Client", "EventStream"]

Client.__module__ = __name__
