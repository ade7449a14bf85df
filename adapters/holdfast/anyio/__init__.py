"""Holdfast for anyio, on asyncio or trio: ``from holdfast.anyio import Client``."""

from holdfast._structured import EventStream
from holdfast.anyio.client import Client

__all__ = ["Client", "EventStream"]

Client.__module__ = __name__
