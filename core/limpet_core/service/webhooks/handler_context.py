"""What one client and its event handlers know of each other, and what of the client waits for an answer."""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import msgspec

from limpet_core.service.webhooks.cloud_events import CONTENT_TYPES, ClientEvent, ConnectRequest, header_value
from limpet_core.service.webhooks.handlers import Answer, EventHandler, HandlerCall, Headers
from limpet_core.service.wire.from_client import Event, JoinGroup, LeaveGroup, SendToGroup

__all__ = ["EventSettings", "HandlerContext", "Waiting"]

_JSON: Final = "application/json; charset=utf-8"
_MAX_COOKIES: Final = 50
_MAX_COOKIE: Final = 4096

Waiting: TypeAlias = JoinGroup | LeaveGroup | SendToGroup | Event
"""What can wait until a handler has answered what came before."""


class EventSettings(msgspec.Struct, kw_only=True):
    """What the service needs to call event handlers.

    Args:
        handlers: of each hub, by lower-case name; the first that gets an event is called.
        access_keys: whose signatures prove to a handler where a call is from, the primary one first.
        utc_time: returns the present time like ``2026-01-31T12:00:00Z``.
        origin: the host of the service, with its port unless that is the scheme's own. Handlers are asked whether
            they allow calls from there, so it has to be set before the first client connects.
    """

    handlers: Mapping[str, tuple[EventHandler, ...]] = {}
    access_keys: tuple[str, ...] = ()
    utc_time: Callable[[], str] = lambda: "1970-01-01T00:00:00Z"
    origin: str = ""


class HandlerContext:
    """The events of one client, from the question whether it may connect to its end; survives recoveries.

    ``state`` is the handler's own, kept for it; ``pending`` the user event the handler is thinking about, which
    holds up what the client sends after it; ``telling`` is true until the handler was told of the connection;
    ``ended`` is why the connection is over, once it is.
    """

    __slots__ = (
        "_cookies",
        "_next_id",
        "_settings",
        "_signature",
        "connection_id",
        "ended",
        "handlers",
        "hub",
        "pending",
        "state",
        "subprotocol",
        "telling",
        "user_id",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, hub: str, connection_id: str, user_id: str | None, settings: EventSettings) -> None:
        self.hub: str = hub
        self.connection_id: str = connection_id
        self.user_id: str | None = user_id
        self.subprotocol: str = ""
        self.handlers: tuple[EventHandler, ...] = settings.handlers[hub]
        self.state: str = ""
        self.pending: HandlerCall | None = None
        self.telling: bool = False
        self.ended: str | None = None
        self.waiting: deque[tuple[Waiting, int]] = deque()
        self.waiting_bytes: int = 0
        self._settings = settings
        self._signature = ",".join(
            f"sha256={hmac.new(key.encode(), connection_id.encode(), hashlib.sha256).hexdigest()}"
            for key in settings.access_keys
        )
        self._next_id = 1
        # By host, since cookies are nobody else's business.
        self._cookies: dict[str, dict[str, str]] = {}

    # --- What the client has sent -------------------------------------------------------------------

    def wait(self, message: Waiting, size: int) -> None:
        """Keep a message until the handler has answered."""
        self.waiting.append((message, size))
        self.waiting_bytes += size

    def next_waiting(self) -> Waiting:
        """Return the message whose turn it is."""
        message, size = self.waiting.popleft()
        self.waiting_bytes -= size
        return message

    def drop_repeats(self, ack_id: int) -> int:
        """Drop the waiting events with an ack id; return how many there were."""
        kept = deque((message, size) for message, size in self.waiting if not _is_event(message, ack_id))
        found = len(self.waiting) - len(kept)
        if found:
            self.waiting, self.waiting_bytes = kept, sum(size for _, size in kept)
        return found

    def forget_waiting(self) -> None:
        """Drop everything that waits."""
        self.waiting.clear()
        self.waiting_bytes = 0

    # --- Calls ----------------------------------------------------------------------------------------

    def connect(self, request: ConnectRequest, purpose: object) -> HandlerCall | None:
        """Return the question whether the client may connect, ``None`` if nobody wants to be asked."""
        return self._system("connect", request.body(), "0", purpose)

    def connected(self, purpose: object) -> HandlerCall | None:
        """Return the news that the client is connected, ``None`` if nobody wants them."""
        return self._system("connected", b"{}", None, purpose)

    def disconnected(self, reason: str, purpose: object) -> HandlerCall | None:
        """Return the news that the connection is over, ``None`` if nobody wants them."""
        return self._system("disconnected", msgspec.json.encode({"reason": reason}), None, purpose)

    def user_event(self, event: ClientEvent, purpose: object) -> HandlerCall | None:
        """Return the call for an event of the client, ``None`` if nobody wants it."""
        handler = next((handler for handler in self.handlers if handler.gets_user_event(event.name)), None)
        if handler is None:
            return None
        headers = (("Content-Type", CONTENT_TYPES[event.data_type]), *event.metadata_headers())
        return self._call(handler, "user", event.name, None, headers, event.payload, purpose)

    def _system(self, name: str, body: bytes, event_id: str | None, purpose: object) -> HandlerCall | None:
        handler = next((handler for handler in self.handlers if handler.gets_system_event(name)), None)
        if handler is None:
            return None
        return self._call(handler, "sys", name, event_id, (("Content-Type", _JSON),), body, purpose)

    def _call(
        self,
        handler: EventHandler,
        kind: str,
        name: str,
        event_id: str | None,
        headers: Headers,
        body: bytes,
        purpose: object,
    ) -> HandlerCall:
        if event_id is None:
            event_id = str(self._next_id)
            self._next_id += 1
        url = handler.url_for(self.hub, name)
        optional = (
            ("ce-userId", header_value(self.user_id or "")),
            ("ce-subprotocol", header_value(self.subprotocol)),
            ("ce-connectionState", self.state),
            ("Cookie", "; ".join(f"{key}={value}" for key, value in self._cookies.get(_host(url), {}).items())),
        )
        return HandlerCall(
            "POST",
            url,
            (
                ("ce-specversion", "1.0"),
                ("ce-awpsversion", "1.0"),
                ("ce-type", f"azure.webpubsub.{kind}.{name}"),
                ("ce-source", f"/hubs/{self.hub}/client/{self.connection_id}"),
                ("ce-id", event_id),
                ("ce-time", self._settings.utc_time()),
                ("ce-hub", self.hub),
                ("ce-connectionId", self.connection_id),
                ("ce-eventName", name),
                ("ce-signature", self._signature),
                ("WebHook-Request-Origin", self._settings.origin),
                *((name, value) for name, value in optional if value),
                *headers,
            ),
            body,
            handler=handler,
            event=name,
            purpose=purpose,
            validation_url=handler.url_for(self.hub, "validate"),
        )

    # --- Answers --------------------------------------------------------------------------------------

    def keep_state(self, answer: Answer) -> None:
        """Keep the state that an answer sets, also an empty one."""
        state = answer.last("ce-connectionstate")
        if state is not None:
            self.state = state

    def keep_cookies(self, call: HandlerCall, answer: Answer) -> None:
        """Keep the cookies that an answer sets, for later calls to the same host; empty ones are deleted."""
        for value in answer.all("set-cookie"):
            pair, *attributes = value[:_MAX_COOKIE].split(";")
            name, separator, content = pair.strip().partition("=")
            if not separator or not name:
                continue
            kept = self._cookies.setdefault(_host(call.url), {})
            over = any(attribute.strip().lower() in ("max-age=0", "max-age=-1") for attribute in attributes)
            if over or not content:
                kept.pop(name, None)
            elif name in kept or len(kept) < _MAX_COOKIES:
                kept[name] = content


def _is_event(message: Waiting, ack_id: int) -> bool:
    return isinstance(message, Event) and message.ack_id == ack_id


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()
