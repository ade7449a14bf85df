"""Holdfast for trio: ``from holdfast.trio import Client``."""

from holdfast._extras import extra

with extra("trio"):
    from holdfast.trio.client import Client, EventStream

__all__ = ["Client", "EventStream"]

for _object in (Client, EventStream):
    _object.__module__ = __name__
del _object
