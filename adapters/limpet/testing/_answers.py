"""Event handlers that are functions of a test: no HTTP server, no request."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from limpet_core.protocol.json_requests import encode_json
from limpet_core.protocol.lenient_json import read_value
from limpet_core.protocol.names import is_event_name
from limpet_core.service import Answer, ClientCall, EventHandler, HandlerCall
from limpet_core.service.webhooks.cloud_events import ClientEvent
from limpet_core.text import short_repr

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
        asked = AnsweredCall(
            event=event.name,
            connection_id=purpose.connection.connection_id,
            user_id=purpose.connection.user_id,
            data=_data(event),
            data_type=event.data_type,
            metadata=event.metadata,
            invoked=call.is_invocation,
        )
        try:
            return _answer(self.functions[event.name.lower()](asked))
        except KeyboardInterrupt:
            raise
        except BaseException:  # pytest.fail, pytest.skip and sys.exit raise no Exception, and would end the service
            _LOGGER.exception("the function that answers %s has failed", event.name)
            return _FAILED


class Answers(Mapping[str, tuple[EventHandler, ...]]):
    """The event handlers of all hubs: the functions of a test first, then those that the service has anyway."""

    def __init__(self, others: Mapping[str, tuple[EventHandler, ...]]) -> None:
        self._others = others
        self._functions: dict[str, Function] = {}
        self._in_process = _InProcess(
            url="http://in-process.invalid/", system_events=(), user_events=(), functions=self._functions
        )

    def add(self, event: str, function: Function) -> None:
        """Answer an event by a function, from now on."""
        _check_function(function)
        if not is_event_name(event):
            raise ValueError(f"not the name of an event: {event!r}; a function answers one event")
        self._functions[event.lower()] = function

    @property
    def functions(self) -> dict[str, Function]:
        """The functions of the test, by lower-case event; those of a test that is over can be put back."""
        return dict(self._functions)

    @functions.setter
    def functions(self, functions: Mapping[str, Function]) -> None:
        self._functions.clear()
        self._functions.update(functions)

    def __getitem__(self, hub: str) -> tuple[EventHandler, ...]:
        return (self._in_process, *self._others.get(hub, ()))

    def __contains__(self, hub: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._others)

    def __len__(self) -> int:
        return 1 + len(self._others)


def _check_function(function: object) -> None:
    if not callable(function):
        raise TypeError(f"a function answers, which gets the call; not {short_repr(function)}")
    for one in (function, type(function).__call__):  # an object may have an async __call__
        if inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one):
            raise TypeError("it is a coroutine function: a plain function answers, at once")


def _data(event: ClientEvent) -> Any:
    if event.data_type == "json":
        try:
            return msgspec.json.decode(event.payload)
        except msgspec.DecodeError:  # numbers beyond floats, which JSON can hold
            return read_value(event.payload)
    return event.payload.decode() if event.data_type == "text" else event.payload


def _answer(reply: Any) -> Answer:
    if isinstance(reply, Answer):
        return _checked(reply)
    if reply is None:
        return Answer(204, (), b"")
    if isinstance(reply, str):
        return Answer(200, (("Content-Type", "text/plain"),), reply.encode())
    if isinstance(reply, bytes):
        return Answer(200, (("Content-Type", "application/octet-stream"),), reply)
    if isinstance(reply, Coroutine):
        reply.close()
        raise TypeError("it is a coroutine function: a plain function answers, at once")
    return Answer(200, (("Content-Type", "application/json"),), bytes(encode_json(reply)))


def _checked(reply: Answer) -> Answer:
    """Return an answer as it would come over HTTP. A test may build it of other types, which nothing checks."""
    status: Any = cast("Any", reply.status)
    headers: Any = cast("Any", reply.headers)
    content: Any = cast("Any", reply.body)
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"the status of an Answer is a number from 100 to 599, not {short_repr(status)}")
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"the body of an Answer is bytes, not {type(content).__name__}")
    if hasattr(headers, "items"):  # a mapping
        headers = headers.items()
    pairs: list[Any] = [tuple(cast("Iterable[Any]", pair)) for pair in cast("Iterable[Any]", headers)]
    if not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
        raise TypeError("the headers of an Answer are pairs of str, or a mapping of str to str")
    return Answer(int(status), tuple(pairs), bytes(cast("bytes", content)))
