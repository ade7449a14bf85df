"""Request: one request of the application or of the session itself, from the call to its end."""

from __future__ import annotations

import enum
import math
from typing import Any, Final

import msgspec


class Kind(enum.Enum):
    """The kind of a request; it decides what happens when the connection is lost."""

    JOIN = "join"
    LEAVE = "leave"
    PUBLISH = "publish"
    """A send to a group or an event: never silently repeated on another connection."""
    REJOIN = "rejoin"
    """A join made by the session itself, for a group of the connection before."""
    SET_STATE = "set state"
    """The own state in a group is set or cleared."""
    SUBSCRIBE = "subscribe"
    """The states of a group are subscribed."""
    UNSUBSCRIBE = "unsubscribe"
    """The subscription of the states of a group is ended."""
    RESTORE = "restore"
    """The own state is set again by the session itself, on a new connection."""
    RENEW = "renew"
    """A subscription made by the session itself, for a fresh snapshot."""


JOIN: Final = Kind.JOIN
LEAVE: Final = Kind.LEAVE
PUBLISH: Final = Kind.PUBLISH
REJOIN: Final = Kind.REJOIN
SET_STATE: Final = Kind.SET_STATE
SUBSCRIBE: Final = Kind.SUBSCRIBE
UNSUBSCRIBE: Final = Kind.UNSUBSCRIBE
RESTORE: Final = Kind.RESTORE
RENEW: Final = Kind.RENEW

RENEWALS: Final = frozenset({REJOIN, RESTORE, RENEW})
"""What the session asks for by itself, to have on this connection or transport what it had on the one before."""


NOT_HANDLED: Final = frozenset({"Forbidden", "BadRequest", "NotFound"})
"""Errors that say that no event handler was called, or that it refused what it was asked for.

With any other a handler may have done its work and failed: the service answers ``InternalServerError`` then, after
retries of its own (emulator), or ``Timeout``.
"""


QUEUED: Final = 1
"""The request is in the queue for the open transport."""

IN_FLIGHT: Final = 2
"""The open transport has the request, and its answer is awaited."""

HANDED: Final = 4
"""The request was handed to a transport under the current connection id."""

ORDINARY: Final = 8
"""The request is a publish or event of the application, with an ack and without a timeout of its own.

When it is answered nothing needs to be looked at but the outbox, the time of its next repeat, and where there is a
``request_timeout`` the time of its end.
"""

SENT: Final = IN_FLIGHT | HANDED
"""The flags that a request gets when it is sent."""

NEW_PUBLISH: Final = ORDINARY | QUEUED
"""The flags of nearly every request that is to be sent."""

SENT_PUBLISH: Final = ORDINARY | SENT
"""The flags of nearly every request that is answered: one number, since to look at four attributes takes long."""


class Request(msgspec.Struct, eq=False, gc=False):
    """A request that is not settled yet, and has no ``user_data``: :func:`new_request` makes one with or without.

    So nothing in it can lead back to it, and the garbage collector need not look at it. With a thousand requests on
    their way that is a tenth of what it costs to send.

    Attributes:
        key: the ack id; a negative number for a request without an ack.
        payload: the encoded message, the same for every repeat.
        user_data: comes back with the answer.
        submitted: the time of the call, in seconds.
        due: the time of the next repeat, while the request waits for its answer or its backoff.
        flags: some of :data:`QUEUED`, :data:`IN_FLIGHT`, :data:`HANDED` and :data:`ORDINARY`.
        group: the group, unless the request is a publish: then it is empty.
        handed_before: whether the request was handed to a transport under a connection id before the current one.
        failures: repeats used up, by errors that may pass and by missing acks.
        superseded: whether a newer request asks for the opposite, after which a repeat must not come.
        overtaken: whether that newer request was executed.
        carried: whether the request was handed to a transport before the open one, under the current connection id.
        undone: whether the older opposite may have been executed after this join or leave, if the answer is Duplicate.
        own: whether it is a request of the session itself: one of :data:`RENEWALS`, or a publish that
            :class:`Pacing` made an acknowledged one.
        event: whether the request is for an event handler, which may have been called although the service answers
            an error.
        copies: whether the request was repeated on the open transport: after a refusal of one copy, another may be
            executed.
        doubtful: whether a copy of this publish may have been executed, so that no later refusal says otherwise.
        timeout: seconds from the call to the end, as the caller said; None: the options'.
        number: see :class:`Deadlines`.
        state: the own state that the request sets; None: it clears the state, or is about something else.
    """

    key: int
    kind: Kind
    payload: bytes
    user_data: Any
    submitted: float
    due: float = math.inf
    flags: int = 0
    group: str = ""
    handed_before: bool = False
    failures: int = 0
    superseded: bool = False
    overtaken: bool = False
    carried: bool = False
    undone: bool = False
    own: bool = False
    event: bool = False
    copies: bool = False
    doubtful: bool = False
    timeout: float | None = None
    number: int = 0
    state: dict[str, str] | None = None

    @property
    def queued(self) -> bool:
        """Whether the request is in the queue for the open transport."""
        return self.flags & QUEUED > 0

    @queued.setter
    def queued(self, queued: bool) -> None:
        self._set(QUEUED, queued)

    @property
    def in_flight(self) -> bool:
        """Whether the open transport has the request and its answer is awaited."""
        return self.flags & IN_FLIGHT > 0

    @in_flight.setter
    def in_flight(self, in_flight: bool) -> None:
        self._set(IN_FLIGHT, in_flight)

    @property
    def handed(self) -> bool:
        """Whether the request was handed to a transport under the current connection id."""
        return self.flags & HANDED > 0

    @handed.setter
    def handed(self, handed: bool) -> None:
        self._set(HANDED, handed)

    def _set(self, flag: int, on: bool) -> None:
        self.flags = self.flags | flag if on else self.flags & ~flag

    @property
    def tried(self) -> bool:
        """Whether the request was ever handed to a transport."""
        return self.handed or self.handed_before


class TrackedRequest(Request, eq=False, gc=True):
    """A request whose ``user_data`` may lead back to it: the garbage collector looks at it."""


def new_request(
    key: int,
    kind: Kind,
    payload: bytes,
    user_data: Any,
    submitted: float,
    group: str = "",
    *,
    timeout: float | None = None,
    own: bool = False,
    event: bool = False,
    state: dict[str, str] | None = None,
) -> Request:
    """Return a new request; the arguments are attributes of :class:`Request`."""
    made = Request if user_data is None else TrackedRequest
    flags = ORDINARY if kind is PUBLISH and key > 0 and timeout is None and not own else 0
    return made(
        key,
        kind,
        payload,
        user_data,
        submitted,
        flags=flags,
        group=group,
        timeout=timeout,
        own=own,
        event=event,
        state=state,
    )
