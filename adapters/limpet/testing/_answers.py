"""Event handlers that are functions of a test: no HTTP server, no request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from limpet_core.protocol.json_requests import encode_json
from limpet_core.service import Answer, ClientCall, EventHandler, HandlerCall

__all__ = ["AnsweredCall", "Answers", "Function"]

_LOGGER: Final = logging.getLogger("limpet.testing")

_FAILED: Final = Answer(500, (), b"")


class AnsweredCall(msgspec.Struct, frozen=True, kw_only=True):
    """An event or an invocation of a client, for a function that answers it.

    Attributes:
        event: the name.
        connection_id: of the client.
        user_id: of the client; None: anonymous.
        data: a str of text, bytes of binary data and of protobuf, otherwise the value that the JSON stands for.
        data_type: ``text``, ``json``, ``binary`` or ``protobuf``.
        metadata: names and values that came with it.
        invoked: whether the client waits for the reply.
    """

    event: str
    connection_id: str
    user_id: str | None
    data: Any
    data_type: str
    metadata: Mapping[str, str]
    invoked: bool


Function = Callable[[AnsweredCall], Any]
"""Returns a str (text), bytes (binary), None (nothing), an ``Answer`` (any HTTP response), or what becomes JSON."""


class _InProcess(EventHandler, frozen=True, kw_only=True):
    """A handler of the events that it has functions for, by lower-case name."""

    functions: dict[str, Function]

    def gets_user_event(self, name: str) -> bool:
        return name.lower() in self.functions

    def answer(self, call: HandlerCall) -> Answer | None:
        purpose = call.purpose
        assert isinstance(purpose, ClientCall)
        event = purpose.event
        data: Any = event.payload
        if event.data_type == "json":
            data = msgspec.json.decode(event.payload)
        elif event.data_type == "text":
            data = event.payload.decode()
        asked = AnsweredCall(
            event=event.name,
            connection_id=purpose.connection.connection_id,
            user_id=purpose.connection.user_id,
            data=data,
            data_type=event.data_type,
            metadata=event.metadata,
            invoked=call.is_invocation,
        )
        try:
            return _answer(self.functions[event.name.lower()](asked))
        except Exception:
            _LOGGER.exception("the function that answers %s has failed", event.name)
            return _FAILED


class Answers(Mapping[str, tuple[EventHandler, ...]]):
    """The event handlers of all hubs: the functions of a test first, then those that the service has anyway."""

    def __init__(self, others: Mapping[str, tuple[EventHandler, ...]]) -> None:
        self._others = others
        self._functions: dict[str, Function] = {}
        self._in_process = _InProcess(url="http://in-process.invalid/", system_events=(), functions=self._functions)

    def add(self, event: str, function: Function) -> None:
        """Answer an event by a function, from now on."""
        EventHandler(url="http://in-process.invalid/", user_events=(event,))  # raises for what is no name
        self._functions[event.lower()] = function

    def __getitem__(self, hub: str) -> tuple[EventHandler, ...]:
        return (self._in_process, *self._others.get(hub, ()))

    def __contains__(self, hub: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._others)

    def __len__(self) -> int:
        return 1 + len(self._others)


def _answer(reply: Any) -> Answer:
    if isinstance(reply, Answer):
        return reply
    if reply is None:
        return Answer(204, (), b"")
    if isinstance(reply, str):
        return Answer(200, (("Content-Type", "text/plain"),), reply.encode())
    if isinstance(reply, bytes):
        return Answer(200, (("Content-Type", "application/octet-stream"),), reply)
    return Answer(200, (("Content-Type", "application/json"),), bytes(encode_json(reply)))
