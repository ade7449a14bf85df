"""The service's logic under a virtual clock, with clients that are a few lines each."""

from __future__ import annotations

import json
from typing import Any

from limpet.testing import VirtualService
from limpet_core.service import RELIABLE_JSON, ClientGrant, EventHandler, EventSettings, Limits, RawMode, Transport

JOIN_SEND_ALL = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


class ServiceUnderTest(VirtualService):
    """A service whose clients are transports: what they say is up to the test, word for word.

    ``handlers`` are the event handlers of the hub ``chat``.
    """

    def __init__(
        self, *handlers: EventHandler, access_keys: tuple[str, ...] = ("first", "second"), **limits: Any
    ) -> None:
        events = EventSettings(
            handlers={"chat": handlers} if handlers else {},
            access_keys=access_keys,
            utc_time=lambda: "2026-01-31T12:00:00Z",
            origin="service.example:8080",
        )
        by_hub = events.handlers
        super().__init__(Limits(**limits), events=events)
        self.core.events.handlers = by_hub  # no functions of the test, so that clients of other hubs have no handlers
        self.core.observers.clear()  # tests about observers bring their own

    def connect(  # type: ignore[override]
        self,
        *,
        hub: str = "chat",
        subprotocol: str | None = RELIABLE_JSON,
        user: str | None = None,
        roles: tuple[str, ...] = JOIN_SEND_ALL,
        groups: tuple[str, ...] = (),
        raw: RawMode | None = None,
    ) -> Client:
        """Let a client in; with ``raw`` it is one without a subprotocol."""
        grant = ClientGrant(user, roles, groups)
        if raw is None:
            return Client(self, self.core.connect(hub, subprotocol, grant, self.now))
        return Client(self, self.core.connect(hub, None, grant, self.now, raw))

    def recover(self, hello: dict[str, Any], *, hub: str = "chat", token: str | None = None) -> Client:
        token = hello["reconnectionToken"] if token is None else token
        return Client(self, self.core.recover(hub, hello["connectionId"], token, self.now))


class Client:
    """One transport, seen from the client."""

    def __init__(self, service: ServiceUnderTest, transport: Transport) -> None:
        self.service = service
        self.transport = transport

    def received(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.received_raw()]

    def received_raw(self) -> list[bytes]:
        return self.transport.messages_to_send(self.service.now)

    def hello(self) -> dict[str, Any]:
        (message,) = self.received()
        assert message["event"] == "connected"
        return message

    def send(self, message: object) -> None:
        self.send_raw(json.dumps(message))

    def send_raw(self, data: str | bytes) -> None:
        self.service.core.receive(self.transport, data, self.service.now)

    def ask(self, message: object) -> list[dict[str, Any]]:
        self.send(message)
        return self.received()

    def publish(self, data: object, group: str = "room", **more: object) -> None:
        self.send({"type": "sendToGroup", "group": group, "data": data, **more})

    def drop(self, code: int = 1006) -> None:
        self.service.core.disconnected(self.transport, code, self.service.now)

    @property
    def close_code(self) -> int | None:
        return None if self.transport.close is None else self.transport.close.code
