"""Holdfast for code that blocks: ``from holdfast.sync import Client``."""

from holdfast._blocking_streams import EventStream
from holdfast.sync.client import Client

__all__ = ["Client", "EventStream"]

for _object in (Client, EventStream):
    _object.__module__ = __name__
del _object
