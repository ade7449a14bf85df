"""Limpet for code that blocks: ``from limpet.sync import Client``."""

from limpet._clients.submit import Submit
from limpet._public import claim
from limpet.sync._group_states import GroupStates
from limpet.sync._incoming import IncomingStream
from limpet.sync._outgoing import OutgoingStream
from limpet.sync._streams import EventStream
from limpet.sync.client import Client

__all__ = ["Client", "EventStream", "GroupStates", "IncomingStream", "OutgoingStream", "Submit"]

claim(__name__, Client, EventStream, GroupStates, IncomingStream, OutgoingStream)
