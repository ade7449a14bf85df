"""Limpet for asyncio: ``from limpet.asyncio import Client``."""

from limpet._clients.group_states import GroupStates
from limpet._clients.incoming import IncomingStream
from limpet._clients.outgoing import OutgoingStream
from limpet._clients.streams import EventStream
from limpet._clients.submit import Submit
from limpet._public import claim
from limpet.asyncio.client import Client

__all__ = ["Client", "EventStream", "GroupStates", "IncomingStream", "OutgoingStream", "Submit"]

claim(__name__, Client, EventStream)
