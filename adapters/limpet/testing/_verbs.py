"""What the two services for tests have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
"""The permissions of a client unless others are asked for: to join, to leave and to send to all groups."""


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

    def publish(self, group: str, messages: Iterable[Any], *, hub: str = "chat") -> None: ...

    def members(self, group: str, *, hub: str = "chat") -> set[str]: ...

    def retained(self, connection_id: str) -> int | None: ...
