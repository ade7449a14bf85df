"""One request: what is asked for, and what is known of it until it is settled."""

from __future__ import annotations

import enum
import math
from typing import Any, Final

import msgspec

from limpet_core.errors import SendError


class Kind(enum.Enum):
    """What a request asks for: it decides what happens when its connection is lost."""

    JOIN = "join"
    LEAVE = "leave"
    PUBLISH = "publish"
    """A send to a group or an event: never silently repeated on another connection."""
    REJOIN = "rejoin"
    """A join made by the session itself, for a group of the connection before."""


JOIN: Final = Kind.JOIN
LEAVE: Final = Kind.LEAVE
PUBLISH: Final = Kind.PUBLISH
REJOIN: Final = Kind.REJOIN


class Request(msgspec.Struct, eq=False):
    """One request that is not settled yet.

    Attributes:
        key: its ack id, or a negative number where no ack is wanted.
        payload: the encoded message, the same for every repeat.
        handed: whether it was handed to a transport since the connection id is what it is.
        tried: whether it was ever handed to a transport.
        queued: whether it is in the queue for the transport that is open now.
        in_flight: whether that transport has it and its answer is awaited.
        due: when it is repeated, while it waits for its answer or its backoff.
        submitted: when it was asked for.
        group: what is joined or left.
        failures: repeats used up, by errors that may pass and by missing acks.
        superseded: whether a newer request asks for the opposite, after which a repeat must not come.
        overtaken: whether that was executed.
        transport: the number of the transport that it was first handed to.
        undone: whether the older opposite may have been executed after this join or leave, if that is a duplicate.
        own: whether only the session wants to know how it ends.
        event: whether it is for an event handler, which may have been called although the service answers an error.
        copies: whether it was repeated on this transport: after a refusal of the one, the other may be executed.
        doubtful: whether a copy of this publish may have been executed, so that no later refusal says otherwise.
    """

    key: int
    kind: Kind
    payload: bytes
    user_data: Any
    submitted: float
    group: str = ""
    handed: bool = False
    tried: bool = False
    queued: bool = False
    in_flight: bool = False
    due: float = math.inf
    failures: int = 0
    superseded: bool = False
    overtaken: bool = False
    transport: int = 0
    undone: bool = False
    own: bool = False
    event: bool = False
    copies: bool = False
    doubtful: bool = False


class Settled(msgspec.Struct, frozen=True):
    """The end of a request: success where ``error`` is None."""

    request: Request
    error: SendError | None
    duplicate: bool
