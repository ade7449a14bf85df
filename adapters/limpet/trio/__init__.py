"""Limpet for trio: ``from limpet.trio import Client``."""

from limpet._extras import extra
from limpet._public import claim
from limpet._structured.client import EventStream

with extra("trio"):
    from limpet.trio.client import Client

__all__ = ["Client", "EventStream"]

claim(__name__, Client)
