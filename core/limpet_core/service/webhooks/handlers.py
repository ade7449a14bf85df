"""Event handlers: which events each gets, and the calls to them.

An event handler is an HTTP endpoint of the application server. The service asks it whether a client may connect,
informs it of connections that begin and end, and sends it the events of clients (Azure docs).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from limpet_core.protocol.names import hub_identity, is_event_name
from limpet_core.service.access.patterns import GroupPattern, InvalidPattern
from limpet_core.service.webhooks.answers import Answer, Headers
from limpet_core.service.webhooks.listeners import EventListener
from limpet_core.text import one_line

SYSTEM_EVENTS: Final = ("connect", "connected", "disconnected")
"""The events that the service itself raises."""

ORIGIN: Final = "WebHook-Request-Origin"
"""The name of the header with the host of the service."""

_WITH_WILDCARDS: Final = re.compile(r"(?=.*[?*])[A-Za-z0-9_.?*-]{1,128}")
_PARAMETER = re.compile(r"\{([^{}]*)\}")


class EventHandler(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An HTTP endpoint of the application server, and the events that it gets.

    Attributes:
        url: an http or https URL; in its path and query ``{hub}`` and ``{event}`` stand for the names (Azure docs).
        user_events: names of the client events, case-insensitive; ``*`` stands for all. In a name ``?`` stands for one
            character that is not a dot, ``*`` for any number of them, ``**`` for any characters.
        system_events: any of connect, connected and disconnected. A handler that gets connect decides whether a
            client may connect.
        timeout: seconds for one event, retries included. After that the event has failed and is not tried again.
        retries: further attempts at most; ``None``: as many as there are ``retry_delays``. 0: none.
        retry_delays: seconds to wait before each further attempt; the last delay repeats (emulator).
        resend: ``"always"``: try again after a network error and after status 408 or 5xx, so that the handler may get
            an event more than once (emulator); ``"safe"``: try again only while no connection could be made, so that
            the handler certainly got nothing. With ``"safe"`` a client that repeats a request under the same ack id,
            after a recovery, gets the first outcome again.

    Other statuses, unusable answers and timeouts are never tried again (emulator).

    Raises:
        ValueError: for an unusable URL, name, number or time.
        TypeError: for a single string instead of a list of names.
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
            if event != "*" and not is_event_name(event) and not _is_pattern(event):
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
        """Return the seconds to wait after this number of attempts; ``None``: there is no further attempt."""
        delays = self.retry_delays
        retries = len(delays) if self.retries is None else self.retries
        return None if attempts > retries else delays[min(attempts, len(delays)) - 1]

    def answer(self, call: HandlerCall) -> Answer | None:
        """Return the answer to a call without a request; ``None``: make the request.

        A subclass, for tests, may answer by itself, and choose its events by :meth:`gets_user_event`.
        """
        return None

    def gets_user_event(self, name: str) -> bool:
        """Return whether the handler gets a client event; case does not matter (emulator)."""
        lowered = name.lower()
        return any(event == "*" or _pattern(event.lower()).matches(lowered) for event in self.user_events)

    def gets_system_event(self, name: str) -> bool:
        """Return whether the handler gets one of ``SYSTEM_EVENTS``."""
        return any(event.lower() == name for event in self.system_events)

    def url_for(self, hub: str, event: str) -> str:
        """Return the URL to call for an event; names are percent-escaped (emulator)."""
        values = {"hub": hub, "event": event}
        return _PARAMETER.sub(lambda match: quote(values[match[1].lower()], safe=""), self.url)


def _address(url: str) -> str:
    """Return a URL without its credentials and query, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _quoted(url: str) -> str:
    """Return what can be told of a text that is no URL of a handler: nothing that may be a secret in one."""
    shown = re.split("[?#;]", url, maxsplit=1)[0]
    if "@" in url:  # a password, which may hold any of these characters
        shown = shown.partition("://")[0] + "://" if "://" in shown else ""
    return one_line(repr(shown)) + (" and more" if shown != url else "")


def _check_url(url: str) -> None:
    for parameter in _PARAMETER.findall(url):
        if parameter.lower() not in ("hub", "event"):
            raise ValueError("the URL of an event handler knows {hub} and {event}, no other name in braces")
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
        # The URL itself may hold a password, or a secret in its query.
        raise ValueError(f"not the URL of an event handler: {_quoted(url)}; it is an http or https URL without spaces")


@lru_cache(maxsize=1000)
def _pattern(text: str) -> GroupPattern:
    return GroupPattern(text)


def _is_pattern(text: str) -> bool:
    """Return whether a text stands for names of events: the characters of names, and wildcards."""
    if _WITH_WILDCARDS.fullmatch(text) is None:
        return False
    try:
        _pattern(text.lower())
    except InvalidPattern:
        return False
    return True


class HandlerCall:
    """An HTTP request to an event handler. Compared by identity.

    Once handed out by :meth:`ServiceCore.handler_calls`: make the request, without following redirects, and report the
    end with :meth:`ServiceCore.handler_answered` or :meth:`ServiceCore.handler_failed`, at ``deadline`` at the latest.
    The same call may be handed out again, for another attempt.

    Attributes:
        deadline: in monotonic seconds.
        cancelled: give the request up; its answer is not wanted any more.
        about: the hub, the connection id and the user id of the client that the event is about.
        duration: seconds from the beginning of the first attempt to the end of the last; 0 before.
        event: the name of the event, or ``validate``; for people.
        purpose: what the answer is used for.
        validation_url: where the handler is asked for permission; ``None`` for the validation itself.
        timeout: seconds for all attempts.
        attempts: the number of attempts begun.
        delivered: whether an attempt may have reached the handler.
        is_invocation: whether a client waits for the reply. A driver that limits the number of calls counts these for
            themselves, so that slow ones hold up no event.
    """

    __slots__ = (
        "about",
        "attempts",
        "body",
        "cancelled",
        "deadline",
        "delivered",
        "duration",
        "event",
        "handler",
        "headers",
        "is_invocation",
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
        about: tuple[str, str, str | None] = ("", "", None),
    ) -> None:
        self.method: Literal["POST", "OPTIONS", "GET"] = method
        self.url: str = url
        self.headers: Headers = headers
        self.body: bytes = body
        self.deadline: float = math.inf
        self.cancelled: bool = False
        self.handler: EventHandler = handler
        self.event: str = event
        self.purpose: object = purpose
        self.validation_url: str | None = validation_url
        self.timeout: float = handler.timeout
        self.attempts: int = 0
        self.delivered: bool = False
        self.is_invocation: bool = False
        self.about: tuple[str, str, str | None] = about
        self.duration: float = 0.0

    @property
    def address(self) -> str:
        """The URL without its credentials and query, which may hold secrets: for logs."""
        return _address(self.url)

    def __repr__(self) -> str:
        return f"<HandlerCall {self.event} {self.method} {self.address}>"


class EventSettings(msgspec.Struct, kw_only=True):
    """The event handlers of all hubs, and what calls to them contain.

    Attributes:
        handlers: of each hub, by lower-case name; the first handler that gets an event is called.
        listeners: of each hub, by lower-case name; all that hear of an event get it.
        access_keys: sign each call, so that a handler can verify its origin; the primary key first.
        utc_time: returns the present time like ``2026-01-31T12:00:00Z``.
        origin: the host of the service, with the port unless it is the default one of the scheme. Handlers are asked
            whether they allow calls from this origin, so set it before the first client connects.
    """

    handlers: Mapping[str, tuple[EventHandler, ...]] = {}
    listeners: Mapping[str, tuple[EventListener, ...]] = {}
    access_keys: tuple[str, ...] = ()
    utc_time: Callable[[], str] = lambda: "1970-01-01T00:00:00Z"
    origin: str = ""


_T = TypeVar("_T")


def index_by_hub(handlers: Mapping[str, Iterable[_T]]) -> dict[str, tuple[_T, ...]]:
    """Return the handlers or listeners of each hub under its lower-case name, without the hubs that have none."""
    return {hub_identity(hub): found for hub, listed in handlers.items() if (found := tuple(listed))}
