"""What the two services for tests have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, cast

from limpet.testing._answers import Function
from limpet_core.protocol.json_requests import encode_json
from limpet_core.protocol.rules import check_group
from limpet_core.service import Publication, group_publication
from limpet_core.text import short_repr

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
"""The permissions of a client unless others are asked for: to join, to leave and to send to all groups."""


def publications(group: str, messages: Iterable[Any]) -> list[Publication]:
    """Return the publications of JSON messages to a group.

    Raises TypeError for a single message: the characters of a str and the keys of a dict could be taken for messages.
    InvalidType or InvalidValue: no client can be in such a group, or the data is not JSON.
    """
    check_group(group)
    given = cast("object", messages)
    if isinstance(given, str | bytes | bytearray | memoryview | Mapping) or not isinstance(given, Iterable):
        raise TypeError(
            f"messages is a list of messages, not {short_repr(cast('object', messages))}: publish(group, [message])"
        )
    return [group_publication(group, None, "json", encode_json(data)) for data in messages]


class ServiceVerbs(Protocol):
    """The verbs of :class:`~limpet.testing.BackgroundService` and of :class:`~limpet.testing.VirtualService`."""

    def url(
        self,
        user_id: str | None = "ann",
        *,
        roles: Iterable[str] = ROLES,
        groups: Iterable[str] = (),
        hub: str = "chat",
    ) -> str: ...

    def cut(self) -> int: ...

    def stall(self, direction: Literal["to_client", "to_service"] | None = None) -> None: ...

    def resume(self) -> None: ...

    def refuse(self) -> None: ...

    def accept(self) -> None: ...

    def heal(self) -> None: ...

    def drop(self, connection_id: str, *, for_good: bool = False) -> bool: ...

    def end(self, connection_id: str, reason: str = "ended by the service") -> None: ...

    def lose_ack(self, connection_id: str | None = None) -> None: ...

    def lose_stream_ack(self, connection_id: str | None = None) -> None: ...

    def nack_stream(self, stream_id: str | None = None, *, times: int = 1) -> None: ...

    def close_stream(self, stream_id: str, name: str = "InternalServerError") -> bool: ...

    def lose_invocation(self, connection_id: str | None = None) -> None: ...

    def delay_invocation(self, seconds: float, connection_id: str | None = None) -> None: ...

    def group_states(self, group: str, *, hub: str = "chat") -> dict[str, dict[str, str]]: ...

    def answer(self, event: str, function: Function) -> None: ...

    def publish(self, group: str, messages: Iterable[Any], *, hub: str = "chat") -> None: ...

    def members(self, group: str, *, hub: str = "chat") -> set[str]: ...

    def retained(self, connection_id: str) -> int | None: ...
