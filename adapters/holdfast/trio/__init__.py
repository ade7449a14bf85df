"""Holdfast for trio: ``from holdfast.trio import Client``."""

from holdfast._extras import extra
from holdfast._structured import EventStream

with extra("trio"):
    from holdfast.trio.client import Client

__all__ = ["Client", "EventStream"]

Client.__module__ = __name__
