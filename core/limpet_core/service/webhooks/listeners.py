"""Event listeners: Event Hubs that hear of events, and are asked nothing (Azure docs)."""

from __future__ import annotations

from typing import Final

import msgspec

from limpet_core.protocol.names import is_event_name
from limpet_core.service.access.audiences import parse_host

_SYSTEM_EVENTS: Final = ("connected", "disconnected")
_KEYS: Final = ("endpoint", "sharedaccesskeyname", "sharedaccesskey")


class EventListener(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event hub of Azure Event Hubs, or of its local emulator, and the events that it hears of.

    A listener gets what event handlers get, and answers nothing. An event that a listener gets is a success for the
    client if there is no handler for it.

    Attributes:
        event_hub: the name of the event hub.
        connection_string: of its namespace, with a key that may send:
            ``Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=...``. For the local emulator of Event Hubs it
            ends with ``;UseDevelopmentEmulator=true``. Left out of the repr.
        user_events: names of the client events, case-insensitive; ``*`` stands for all.
        system_events: any of connected and disconnected.

    Raises:
        ValueError: for an unusable connection string or name.
        TypeError: for a single string instead of a list of names.
    """

    event_hub: str
    connection_string: str
    user_events: tuple[str, ...] = ("*",)
    system_events: tuple[str, ...] = _SYSTEM_EVENTS

    def __post_init__(self) -> None:
        if not self.event_hub.strip():
            raise ValueError("event_hub is the name of an event hub, not an empty text")
        if not _is_connection_string(self.connection_string):
            # The text never has the key.
            raise ValueError(
                "not the connection string of an Event Hubs namespace: it looks like "
                "Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=..."
            )
        for names, value in (("user_events", self.user_events), ("system_events", self.system_events)):
            if isinstance(value, str):
                raise TypeError(f"{names} is a list of names, not a single string")
        for event in self.user_events:
            if event != "*" and not is_event_name(event):
                raise ValueError(f"not the name of an event: {event!r}; use '*' for all events")
        for event in self.system_events:
            if event.lower() not in _SYSTEM_EVENTS:
                raise ValueError(f"listeners hear of {' and '.join(_SYSTEM_EVENTS)}, not of {event!r}")

    def __repr__(self) -> str:
        return (
            f"EventListener(event_hub={self.event_hub!r}, connection_string=..., user_events={self.user_events!r}, "
            f"system_events={self.system_events!r})"
        )

    def hears(self, kind: str, event: str) -> bool:
        """Return whether the listener gets an event; ``kind`` is ``user`` or ``sys``. Case does not matter."""
        names = self.user_events if kind == "user" else self.system_events
        return any(name == "*" or name.lower() == event.lower() for name in names)


def _is_connection_string(text: str) -> bool:
    """Return whether the package for Event Hubs accepts a text, which it reads to the letter."""
    pairs = [part.partition("=")[::2] for part in text.strip().rstrip(";").split(";")]
    found = {name.lower(): value for name, value in pairs}
    endpoint = found.get("endpoint", "")
    return (
        len(found) == len(pairs)
        and all(name == name.strip() and value == value.strip() for name, value in pairs)
        and all(map(all, pairs))
        and all(name in found for name in _KEYS)
        and endpoint.startswith("sb://")
        and parse_host(endpoint.removeprefix("sb://").rstrip("/")) is not None
    )


class ListenerMessage(msgspec.Struct, frozen=True):
    """What a listener gets of one event (Azure docs: CloudEvents over AMQP).

    Attributes:
        listener: the receiver.
        body: the data of the event.
        content_type: of the body.
        message_id: the id of the connection, and that of the event.
        partition_key: the id of the connection: its messages stay in order.
        properties: the attributes of the event, as application properties.
    """

    listener: EventListener
    body: bytes
    content_type: str
    message_id: str
    partition_key: str
    properties: dict[str, str]
