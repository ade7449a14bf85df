"""An application server for tests in virtual time: it answers when the test says so."""

from __future__ import annotations

import json
from typing import Any

from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import (
    RELIABLE_JSON,
    ClientGrant,
    ConnectRequest,
    EventHandler,
    FailureKind,
    HandlerCall,
    PendingConnect,
)


class Backend:
    """Has the calls that are running; permission is given by itself unless ``validates`` is off."""

    def __init__(self, service: ServiceUnderTest, *, validates: bool = True) -> None:
        self.service = service
        self.validates = validates
        self.running: list[HandlerCall] = []
        self.cancelled: list[HandlerCall] = []

    def take(self) -> None:
        """Take the calls that are to be started or given up."""
        while calls := self.service.core.handler_calls(self.service.now):
            for call in calls:
                if call.cancelled:
                    self.running.remove(call)
                    self.cancelled.append(call)
                elif call.method != "POST" and self.validates:
                    self.answer(call, headers=[("WebHook-Allowed-Origin", "*")])
                else:
                    self.running.append(call)

    def calls(self) -> list[HandlerCall]:
        """Return the running calls."""
        self.take()
        return self.running.copy()

    def call(self) -> HandlerCall:
        """Return the only running call."""
        (call,) = self.calls()
        return call

    def idle(self) -> bool:
        return not self.calls()

    def answer(
        self,
        call: HandlerCall | None = None,
        status: int = 200,
        body: object = b"",
        content_type: str | None = None,
        headers: list[tuple[str, str]] | None = None,
    ) -> HandlerCall:
        """Answer a call, by default the only one; a body that is not bytes is sent as JSON."""
        if call is None:
            call = self.call()
        if call in self.running:
            self.running.remove(call)
        if not isinstance(body, bytes):
            body, content_type = json.dumps(body).encode(), content_type or "application/json"
        listed = headers or []
        if content_type is not None:
            listed = [*listed, ("Content-Type", content_type)]
        self.service.core.handler_answered(call, status, tuple(listed), body, self.service.now)
        return call

    def fail(self, kind: FailureKind = "unreachable", call: HandlerCall | None = None) -> HandlerCall:
        """End a call without an answer."""
        call = call or self.call()
        self.running.remove(call)
        self.service.core.handler_failed(call, kind, f"it is {kind}", self.service.now)
        return call

    def decided(self) -> PendingConnect:
        """Return the only client that was decided about."""
        (pending,) = self.service.core.decided_connects()
        return pending


def header(call: HandlerCall, name: str) -> str | None:
    """Return the value of the only header of that name, in exactly this spelling; ``None`` without one."""
    values = [value for key, value in call.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None


def body(call: HandlerCall) -> Any:
    """Return the body of a call, which is JSON."""
    return json.loads(call.body)


URL = "http://app.example/api/{hub}/{event}?code=secret"
EVENTS_ONLY = EventHandler(url=URL, system_events=())
NEWS = EventHandler(url=URL, system_events=("connected", "disconnected"))
EVERYTHING = EventHandler(url=URL)


def talking(
    handler: EventHandler = EVENTS_ONLY, subprotocol: str = RELIABLE_JSON, **limits: Any
) -> tuple[ServiceUnderTest, Backend, Client]:
    """A service whose only client has said hello."""
    service = ServiceUnderTest(handler, **limits)
    backend = Backend(service)
    client = service.connect(user="ann", subprotocol=subprotocol)
    client.hello()
    return service, backend, client


def event(name: str = "order", data: object = "x", **more: object) -> dict[str, object]:
    return {"type": "event", "event": name, "dataType": "text", "data": data, **more}


def ack(ack_id: int) -> dict[str, object]:
    return {"type": "ack", "ackId": ack_id, "success": True}


def failure(answers: list[dict[str, Any]]) -> tuple[int, str]:
    """Return ack id and error name of the only answer."""
    (answer,) = answers
    assert answer["success"] is False
    assert answer["error"]["message"]
    return answer["ackId"], answer["error"]["name"]


def knock(service: ServiceUnderTest, grant: ClientGrant | None = None, **request: Any) -> PendingConnect:
    """Let a client ask to connect."""
    assert service.core.handler_decides("Chat")
    request.setdefault("subprotocols", [RELIABLE_JSON])
    return service.core.ask_to_connect("Chat", grant or ClientGrant("ann", ("r",), ("g",)), ConnectRequest(**request))
