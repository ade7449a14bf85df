"""Limpet for code that blocks: ``from limpet.sync import Client``."""

from limpet._public import claim
from limpet.sync._streams import EventStream
from limpet.sync.client import Client

__all__ = ["Client", "EventStream"]

claim(__name__, Client, EventStream)
