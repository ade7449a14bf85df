"""Limpet for asyncio: ``from limpet.asyncio import Client``."""

from limpet._clients.streams import EventStream
from limpet._public import claim
from limpet.asyncio.client import Client

__all__ = ["Client", "EventStream"]

claim(__name__, Client, EventStream)
