"""Holdfast for code that blocks: ``from holdfast.sync import Client``."""

from holdfast.sync.client import Client, EventStream

__all__ = ["Client", "EventStream"]

for _object in (Client, EventStream):
    _object.__module__ = __name__
del _object
