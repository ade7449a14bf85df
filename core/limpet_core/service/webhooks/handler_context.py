"""The state of one client at its event handlers, and the queue of its requests behind a running event."""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from limpet_core.service.webhooks.answers import Answer, Headers
from limpet_core.service.webhooks.cloud_events import CONTENT_TYPES, ClientEvent, ConnectRequest, header_value
from limpet_core.service.webhooks.handlers import ORIGIN, EventHandler, EventSettings, HandlerCall
from limpet_core.service.webhooks.listeners import ListenerMessage
from limpet_core.service.wire.requests import ClientRequest, Event

_MAX_COOKIES: Final = 50
_MAX_COOKIE: Final = 4096


class HandlerContext:
    """The state of one client at its event handlers, from the connect event to the disconnected event.

    The context outlives the transports of a recovered connection.

    Attributes:
        subprotocol: the negotiated subprotocol, or empty.
        state: the connection state that a handler has set, perhaps empty; sent with each call. ``None``: none was set.
        event_running: the call with an event of the client; later requests of the client are queued behind it.
        connected_running: whether the connected event has not ended yet.
        close_reason: why the connection is over; ``None`` before, and after the disconnected event was submitted.
        queue: the client's requests behind ``event_running``, each with its size in bytes.
        queued_bytes: the sizes together.
    """

    __slots__ = (
        "_cookies",
        "_listener_messages",
        "_next_id",
        "_settings",
        "_signature",
        "close_reason",
        "connected_running",
        "connection_id",
        "event_running",
        "hub",
        "queue",
        "queued_bytes",
        "state",
        "subprotocol",
        "user_id",
    )

    def __init__(
        self,
        hub: str,
        connection_id: str,
        user_id: str | None,
        settings: EventSettings,
        listener_messages: list[ListenerMessage],
    ) -> None:
        self.hub: str = hub
        self.connection_id: str = connection_id
        self.user_id: str | None = user_id
        self.subprotocol: str = ""
        self.state: str | None = None
        self.event_running: HandlerCall | None = None
        self.connected_running: bool = False
        self.close_reason: str | None = None
        self.queue: deque[tuple[ClientRequest, int]] = deque()
        self.queued_bytes: int = 0
        self._settings = settings
        self._listener_messages = listener_messages
        self._signature = ",".join(
            f"sha256={hmac.new(key.encode(), connection_id.encode(), hashlib.sha256).hexdigest()}"
            for key in settings.access_keys
        )
        self._next_id = 1
        # By host: a handler's cookies go to no other host.
        self._cookies: dict[str, dict[str, str]] = {}

    @property
    def handlers(self) -> tuple[EventHandler, ...]:
        """The event handlers of the hub at this moment, in order."""
        return self._settings.handlers.get(self.hub, ())

    def take_id(self) -> str:
        """Return the id of the next event; one that nobody gets has an id, too (emulator)."""
        self._next_id += 1
        return str(self._next_id - 1)

    def tell_listeners(self, event: ClientEvent, event_id: str) -> bool:
        """Tell the listeners of an event of the client; return whether any hears of it."""
        # Without the charset that handlers get (Azure docs).
        content_type, _, _ = CONTENT_TYPES[event.data_type].partition(";")
        return self._tell("user", event.name, event_id, content_type, event.payload, event.metadata_properties())

    def take_over(self, state: str | None, cookies: dict[str, dict[str, str]]) -> None:
        """Begin with what a handler has said of the client elsewhere: see :meth:`handed_over`."""
        self.state = state
        self._cookies = {host: dict(kept) for host, kept in cookies.items()}

    def handed_over(self) -> tuple[str | None, dict[str, dict[str, str]]]:
        """Return the connection state and the cookies, by host."""
        return self.state, self._cookies

    @property
    def next_id(self) -> int:
        """The number of the next event."""
        return self._next_id

    def restore(self, next_id: int, close_reason: str | None, queue: Iterable[tuple[ClientRequest, int]]) -> None:
        """Go on with the events, the end and the queue of a snapshot."""
        self._next_id = next_id
        self.close_reason = close_reason
        for request, size in queue:
            self.enqueue(request, size)

    # ---- The queue

    def enqueue(self, request: ClientRequest, size: int) -> None:
        self.queue.append((request, size))
        self.queued_bytes += size

    def dequeue(self) -> ClientRequest:
        request, size = self.queue.popleft()
        self.queued_bytes -= size
        return request

    def drop_repeats(self, ack_id: int) -> int:
        """Drop the queued events with an ack id; return their number."""
        kept = deque((request, size) for request, size in self.queue if not _is_event(request, ack_id))
        found = len(self.queue) - len(kept)
        if found:
            self.queue, self.queued_bytes = kept, sum(size for _, size in kept)
        return found

    def clear_queue(self) -> None:
        self.queue.clear()
        self.queued_bytes = 0

    # ---- Calls

    def connect(self, request: ConnectRequest, purpose: object) -> HandlerCall | None:
        """Return the call with the connect event; ``None`` if no handler gets it."""
        return self._system("connect", request.body(), purpose, "0")

    def connected(self, purpose: object) -> HandlerCall | None:
        """Return the call with the connected event; ``None`` if no handler gets it."""
        return self._system("connected", b"{}", purpose)

    def disconnected(self, reason: str) -> HandlerCall | None:
        """Return the call with the disconnected event; ``None`` if no handler gets it."""
        return self._system("disconnected", msgspec.json.encode({"reason": reason}), None)

    def user_event(self, event: ClientEvent, purpose: object, event_id: str) -> HandlerCall | None:
        """Return the call with an event of the client; ``None`` if no handler gets it."""
        handler = next((handler for handler in self.handlers if handler.gets_user_event(event.name)), None)
        if handler is None:
            return None
        headers = (("Content-Type", CONTENT_TYPES[event.data_type]), *event.metadata_headers())
        return self._call(handler, "user", event.name, event_id, headers, event.payload, purpose)

    def _system(self, name: str, body: bytes, purpose: object, event_id: str | None = None) -> HandlerCall | None:
        event_id = event_id or self.take_id()
        if name != "connect":  # whose answer counts
            self._tell("sys", name, event_id, "application/json", body, {})
        handler = next((handler for handler in self.handlers if handler.gets_system_event(name)), None)
        if handler is None:
            return None
        return self._call(handler, "sys", name, event_id, (("Content-Type", CONTENT_TYPES["json"]),), body, purpose)

    def _call(
        self,
        handler: EventHandler,
        kind: str,
        name: str,
        event_id: str,
        headers: Headers,
        body: bytes,
        purpose: object,
    ) -> HandlerCall:
        url = handler.url_for(self.hub, name)
        optional = (
            ("ce-userId", header_value(self.user_id or "")),
            ("ce-subprotocol", header_value(self.subprotocol)),
            ("Cookie", "; ".join(f"{key}={value}" for key, value in self._cookies.get(_host(url), {}).items())),
        )
        return HandlerCall(
            "POST",
            url,
            (
                *((f"ce-{key}", value) for key, value in self._attributes(kind, name, event_id).items()),
                ("ce-signature", self._signature),
                (ORIGIN, self._settings.origin),
                ("x-ms-client-request-id", _request_id(self.connection_id, event_id)),
                *(() if self.state is None else (("ce-connectionState", self.state),)),
                *((name, value) for name, value in optional if value),
                *headers,
            ),
            body,
            handler=handler,
            event=name,
            purpose=purpose,
            validation_url=handler.url_for(self.hub, "validate"),
            about=(self.hub, self.connection_id, self.user_id),
        )

    def _tell(
        self, kind: str, name: str, event_id: str, content_type: str, body: bytes, metadata: dict[str, str]
    ) -> bool:
        listeners = self._settings.listeners.get(self.hub, ())
        hearing = [listener for listener in listeners if listener.hears(kind, name)]
        if not hearing:
            return False
        optional = {"userId": self.user_id, "subprotocol": self.subprotocol, "connectionState": self.state}
        attributes = self._attributes(kind, name, event_id) | {key: value for key, value in optional.items() if value}
        properties = {f"cloudEvents:{key.lower()}": value for key, value in attributes.items()} | metadata
        message_id, partition = f"{self.connection_id}/{event_id}", self.connection_id
        self._listener_messages += [
            ListenerMessage(listener, body, content_type, message_id, partition, properties) for listener in hearing
        ]
        return True

    def _attributes(self, kind: str, name: str, event_id: str) -> dict[str, str]:
        """Return the attributes that every event has (CloudEvents), spelled as in headers; over AMQP all are small."""
        return {
            "specversion": "1.0",
            "awpsversion": "1.0",
            "type": f"azure.webpubsub.{kind}.{name}",
            "source": f"/hubs/{self.hub}/client/{self.connection_id}",
            "id": event_id,
            "time": self._settings.utc_time(),
            "hub": self.hub,
            "connectionId": self.connection_id,
            "eventName": name,
        }

    # ---- Answers

    def store_state(self, answer: Answer) -> None:
        """Store the connection state that an answer sets, also an empty one."""
        state = answer.last("ce-connectionstate")
        if state is not None:
            self.state = state

    def store_cookies(self, call: HandlerCall, answer: Answer) -> None:
        """Store the cookies that an answer sets, for later calls to the same host; delete empty and expired ones."""
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


def _request_id(connection_id: str, event_id: str) -> str:
    """Return the id of a call in the form of a UUID (RFC 9562 5.8): one for all attempts, another for each event."""
    digits = hashlib.sha256(f"{connection_id} {event_id}".encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-8{digits[15:18]}-{digits[18:30]}"


def _is_event(request: ClientRequest, ack_id: int) -> bool:
    return isinstance(request, Event) and request.ack_id == ack_id


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()
