"""Holdfast for anyio, on asyncio or trio: ``from holdfast.anyio import Client``."""

from holdfast._extras import extra

with extra("anyio"):
    from holdfast.anyio.client import Client, EventStream

__all__ = ["Client", "EventStream"]

for _object in (Client, EventStream):
    _object.__module__ = __name__
del _object
