"""Holdfast for asyncio: ``from holdfast.asyncio import Client``."""

from holdfast._client import EventStream
from holdfast.asyncio.client import Client

__all__ = ["Client", "EventStream"]

Client.__module__ = __name__
