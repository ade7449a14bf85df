"""Event handlers: which one gets which event, and the calls made to them.

An event handler is the HTTP endpoint of the application server. The service asks it before a client may connect,
tells it of connections that came and went, and hands it the events that clients raise (Azure docs).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlsplit

import msgspec

from limpet_core.protocol.names import hub_identity, is_event_name

__all__ = [
    "MAX_ANSWER",
    "SYSTEM_EVENTS",
    "Answer",
    "EventHandler",
    "Failure",
    "FailureKind",
    "HandlerCall",
    "Headers",
    "index_by_hub",
]

SYSTEM_EVENTS: Final = ("connect", "connected", "disconnected")
"""The events the service itself raises."""

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer's body; one with more is a failure (emulator)."""

_PARAMETER = re.compile(r"\{([^{}]*)\}")


class EventHandler(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An HTTP endpoint of the application server, and the events it gets.

    Args:
        url: an http or https URL; in its path and query ``{hub}`` and ``{event}`` stand for the names (Azure docs).
        user_events: names of the client events it gets, case-insensitive; ``*`` stands for all.
        system_events: which of connect, connected and disconnected it gets. With connect it decides about every
            client before it may connect.
        timeout: seconds one event may take, retries included. After that it has failed, and is not tried again.
        retries: further attempts at most; ``None``: as many as there are ``retry_delays``. 0: none.
        retry_delays: seconds to wait before each further attempt, the last also before all after it (emulator).
        resend: ``"always"``: try again after a network error and after status 408 or 5xx, so that the handler may get
            one event several times (emulator); ``"safe"``: only while it certainly got nothing, since no connection
            could be made. A client that asks again under the same ack id, after a recovery, gets the same answer then.

    Other statuses, answers that cannot be used and time that is up are never tried again (emulator).

    Raises `ValueError` for a URL, name, number or time that cannot be used.
    """

    url: str
    user_events: tuple[str, ...] = ("*",)
    system_events: tuple[str, ...] = SYSTEM_EVENTS
    timeout: float = 100.0
    retries: int | None = None
    retry_delays: tuple[float, ...] = (1.0, 3.0, 5.0)
    resend: Literal["safe", "always"] = "always"

    def __post_init__(self) -> None:
        _check_url(self.url)
        for name, value in (("user_events", self.user_events), ("system_events", self.system_events)):
            if isinstance(value, str):
                raise TypeError(f"{name} is a list of names, not a single string")
        for event in self.user_events:
            if event != "*" and not is_event_name(event):
                raise ValueError(f"not the name of an event: {event!r}; use '*' for all events")
        for event in self.system_events:
            if event.lower() not in SYSTEM_EVENTS:
                raise ValueError(f"not a system event: {event!r}; there are {', '.join(SYSTEM_EVENTS)}")
        if not 0 < self.timeout < math.inf:
            raise ValueError("timeout is a positive number of seconds")
        if not all(0 <= delay < math.inf for delay in self.retry_delays):
            raise ValueError("retry_delays are numbers of seconds, at least 0")
        retries: Any = self.retries
        if retries is not None and (not isinstance(retries, int) or isinstance(retries, bool) or retries < 0):
            raise ValueError(f"retries is a number, at least 0, or None; not {retries!r}")
        if self.retries and not self.retry_delays:
            raise ValueError("retries need retry_delays, the seconds to wait before them")
        if self.resend not in ("safe", "always"):
            raise ValueError(f"resend is 'safe' or 'always', not {self.resend!r}")

    def __repr__(self) -> str:
        return (
            f"EventHandler(url={_address(self.url)!r}, user_events={self.user_events!r}, "
            f"system_events={self.system_events!r}, timeout={self.timeout!r}, retries={self.retries!r}, "
            f"retry_delays={self.retry_delays!r}, resend={self.resend!r})"
        )

    def retry_delay(self, attempts: int) -> float | None:
        """Return the seconds to wait after so many attempts, or ``None`` if there is to be no other."""
        delays = self.retry_delays
        retries = len(delays) if self.retries is None else self.retries
        return None if attempts > retries else delays[min(attempts, len(delays)) - 1]

    def gets_user_event(self, name: str) -> bool:
        """Tell whether it gets a client event; case does not matter (emulator)."""
        return any(event == "*" or event.lower() == name.lower() for event in self.user_events)

    def gets_system_event(self, name: str) -> bool:
        """Tell whether it gets one of `SYSTEM_EVENTS`."""
        return any(event.lower() == name for event in self.system_events)

    def url_for(self, hub: str, event: str) -> str:
        """Return the URL to call for an event; names are percent-escaped (emulator)."""
        values = {"hub": hub, "event": event}
        return _PARAMETER.sub(lambda match: quote(values[match[1].lower()], safe=""), self.url)


def _address(url: str) -> str:
    """Return a URL without credentials and query, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_url(url: str) -> None:
    for parameter in _PARAMETER.findall(url):
        if parameter.lower() not in ("hub", "event"):
            raise ValueError(f"the URL of an event handler knows {{hub}} and {{event}}, not {{{parameter}}}")
    if "{" in _PARAMETER.sub("", url) or "}" in _PARAMETER.sub("", url):
        raise ValueError("the URL of an event handler has a brace without its partner; escape it as %7B or %7D")
    try:
        parts = urlsplit(url)
        legal = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        legal = False
    else:
        if "{" in parts.netloc:
            raise ValueError("the domain name in the URL of an event handler must not have parameters")
        legal = legal and url.isascii() and url.isprintable() and " " not in url and not parts.fragment
    if not legal:
        raise ValueError(f"not the URL of an event handler: {url!r}; it is an http or https URL without spaces")


Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values; each character stands for one byte (latin-1)."""


class HandlerCall:
    """An HTTP request to make, without following redirects. Compared by identity.

    Once handed out by `ServiceCore.handler_calls`: make the request and report with `ServiceCore.handler_answered`
    or `ServiceCore.handler_failed`, after ``deadline`` at the latest, in monotonic seconds. If ``cancelled`` is set,
    nobody waits for the answer any more: give the request up. A call can be handed out again, for another attempt.
    ``delivered`` is set once an attempt may have reached the handler.
    """

    __slots__ = (
        "attempts",
        "body",
        "cancelled",
        "deadline",
        "delivered",
        "event",
        "handler",
        "headers",
        "method",
        "purpose",
        "timeout",
        "url",
        "validation_url",
    )

    def __init__(
        self,
        method: Literal["POST", "OPTIONS", "GET"],
        url: str,
        headers: Headers,
        body: bytes,
        *,
        handler: EventHandler,
        event: str,
        purpose: object = None,
        validation_url: str | None = None,
    ) -> None:
        self.method: Literal["POST", "OPTIONS", "GET"] = method
        self.url: str = url
        self.headers: Headers = headers
        self.body: bytes = body
        self.deadline: float = math.inf
        self.cancelled: bool = False
        self.handler: EventHandler = handler
        self.event: str = event  # for people: the name of the event, or "validate"
        self.purpose: object = purpose  # what the answer is for
        self.validation_url: str | None = validation_url  # where to ask for permission; None for asking itself
        self.timeout: float = handler.timeout
        self.attempts: int = 0
        self.delivered: bool = False

    @property
    def address(self) -> str:
        """The URL without credentials and query, which may hold secrets: for logs."""
        return _address(self.url)

    def __repr__(self) -> str:
        return f"<HandlerCall {self.event} {self.method} {self.address}>"


class Answer(msgspec.Struct, frozen=True):
    """What a handler answered. Names of headers are compared without case."""

    status: int
    headers: Headers
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def last(self, name: str) -> str | None:
        """Return a header's value; of several the last one counts (emulator)."""
        return next(iter(self.all(name)[::-1]), None)

    @property
    def content_type(self) -> tuple[str, str]:
        """The media type in lower case, empty without one, and the charset, utf-8 without one."""
        media_type, *parameters = (self.last("content-type") or "").split(";")
        charset = "utf-8"
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip('"')
        return media_type.strip().lower(), charset


FailureKind: TypeAlias = Literal["unreachable", "broken", "timeout", "too large", "not allowed"]
"""Why there is no answer. After ``unreachable`` and ``not allowed`` the handler certainly got nothing; ``broken`` is a
network error after the request was begun. Only ``unreachable`` and ``broken`` are worth another attempt.
"""


class Failure(msgspec.Struct, frozen=True):
    """A call without a usable answer; ``text`` says why, for people."""

    kind: FailureKind
    text: str

    @property
    def delivered(self) -> bool:
        """Whether the handler may have got the request all the same."""
        return self.kind not in ("unreachable", "not allowed")


def index_by_hub(handlers: Mapping[str, Iterable[EventHandler]]) -> dict[str, tuple[EventHandler, ...]]:
    """Return the handlers of each hub under the hub's lower-case name, without the hubs that have none."""
    return {hub_identity(hub): found for hub, listed in handlers.items() if (found := tuple(listed))}
