"""Limpet for trio: ``from limpet.trio import Client``."""

from limpet._extras import extra
from limpet._structured.client import EventStream

with extra("trio"):
    from limpet.trio.client import Client

__all__ = ["Client", "EventStream"]

Client.__module__ = __name__
