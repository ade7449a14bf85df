"""Holdfast for anyio, on asyncio or trio: ``from holdfast.anyio import Client``."""

from holdfast._extras import extra
from holdfast._structured import EventStream

with extra("anyio"):
    from holdfast.anyio.client import Client

__all__ = ["Client", "EventStream"]

Client.__module__ = __name__
