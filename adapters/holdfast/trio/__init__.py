"""Holdfast for trio: ``from holdfast.trio import Client``."""

from holdfast._structured import EventStream
from holdfast.trio.client import Client

__all__ = ["Client", "EventStream"]

Client.__module__ = __name__
