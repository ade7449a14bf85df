"""Limpet for code that blocks: ``from limpet.sync import Client``."""

from limpet.sync._streams import EventStream
from limpet.sync.client import Client

__all__ = ["Client", "EventStream"]

for _object in (Client, EventStream):
    _object.__module__ = __name__
del _object
