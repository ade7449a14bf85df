"""Limpet for anyio, on asyncio or trio: ``from limpet.anyio import Client``."""

from limpet._clients.group_states import GroupStates
from limpet._clients.incoming import IncomingStream
from limpet._clients.outgoing import OutgoingStream
from limpet._clients.submit import Submit
from limpet._extras import extra
from limpet._public import claim
from limpet._structured.client import EventStream
from limpet._structured.submitted import Submitted

with extra("anyio"):
    from limpet.anyio.client import Client

__all__ = ["Client", "EventStream", "GroupStates", "IncomingStream", "OutgoingStream", "Submit", "Submitted"]

claim(__name__, Client)
