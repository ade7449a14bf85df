"""The official clients under one interface, so that one test shows the same with each of them."""

from __future__ import annotations

import abc
import asyncio
import base64
import itertools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from azure.messaging.webpubsubclient import WebPubSubClient as SyncClient
from azure.messaging.webpubsubclient.aio import WebPubSubClient as AioClient
from azure.messaging.webpubsubclient.models import (
    CallbackType,
    OpenClientError,
    SendMessageError,
    WebPubSubDataType,
    WebPubSubProtocolType,
)
from tests.interop.backend import Background
from tests.interop.events import Events, Message
from tests.interop.node import JavaScriptError, Node

# A client that stops goes on for a moment beside the next test, which may count what is logged.
logging.getLogger("azure.messaging.webpubsubclient").addHandler(logging.NullHandler())
logging.getLogger("azure.messaging.webpubsubclient").propagate = False

KINDS = ("js", "python", "python-aio")
BINARY = ("binary", "protobuf")


class Refused(Exception):
    """A request failed; ``name`` is the error of the service's answer."""

    def __init__(self, name: str, message: str = "") -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class OfficialClient(abc.ABC):
    """One client of an official package.

    Requests wait for the service's answer and raise `Refused`. None are repeated, so that a test sees each answer.
    """

    def __init__(self, url: str, *, reliable: bool = True) -> None:
        self.url = url
        self.reliable = reliable
        self.events = Events()

    @property
    def connection_id(self) -> str:
        """The id of the newest connection."""
        newest: str = self.events.wait("connected")[-1]["connectionId"]
        return newest

    def messages(self, count: int) -> list[Message]:
        """Wait for so many messages; in the order of the service, which the Python clients do not keep."""
        found: list[Message] = self.events.wait("message", count)
        return sorted(found, key=lambda message: message.sequence_id or 0)

    @abc.abstractmethod
    def start(self) -> OfficialClient: ...

    @abc.abstractmethod
    def stop(self) -> None: ...

    def begin_stop(self) -> None:
        """Stop, and do not wait for what the client does after it has closed its connection."""
        self.stop()

    @abc.abstractmethod
    def join(self, group: str, *, ack_id: int | None = None) -> bool | None:
        """Join a group; tell whether the service had done so before, None if the client does not say."""

    @abc.abstractmethod
    def leave(self, group: str, *, ack_id: int | None = None) -> bool | None:
        """Leave a group; result as of `join`."""

    @abc.abstractmethod
    def send(
        self, group: str, data: Any, data_type: str = "text", *, no_echo: bool = False, ack_id: int | None = None
    ) -> bool | None:
        """Publish to a group; result as of `join`."""

    @abc.abstractmethod
    def toss(self, group: str, data: Any, data_type: str = "text") -> None:
        """Publish to a group without an answer."""

    @abc.abstractmethod
    def event(self, name: str, data: Any, data_type: str = "text", *, ack_id: int | None = None) -> bool | None:
        """Send an event to the server; result as of `join`."""


# ---- @azure/web-pubsub-client


class JavaScriptClient(OfficialClient):
    """The JavaScript client, in a Node process."""

    _names = itertools.count(1)

    def __init__(self, url: str, node: Node, *, reliable: bool = True, verbatim: bool = False) -> None:
        super().__init__(url, reliable=reliable)
        self.name = f"client-{next(self._names)}"
        self.verbatim = verbatim
        self._node = node
        node.listen(self.name, self._happened)

    def _happened(self, event: str, value: dict[str, Any]) -> None:
        if event != "message":
            self.events.add(event, value)
            return
        data = base64.b64decode(value["data"]) if value["dataType"] in BINARY else value["data"]
        message = Message(value["group"], value["dataType"], data, value["fromUserId"], value["sequenceId"])
        self.events.add(event, message)

    def start(self) -> JavaScriptClient:
        try:
            self._call("start", url=self.url, reliable=self.reliable, verbatim=self.verbatim)
        except JavaScriptError as error:
            raise ConnectionError(str(error)) from error
        self.events.wait("connected")
        return self

    def stop(self) -> None:
        self._call("stop")

    def join(self, group: str, *, ack_id: int | None = None) -> bool | None:
        return self._ask("join", group=group, ackId=ack_id)

    def leave(self, group: str, *, ack_id: int | None = None) -> bool | None:
        return self._ask("leave", group=group, ackId=ack_id)

    def send(
        self, group: str, data: Any, data_type: str = "text", *, no_echo: bool = False, ack_id: int | None = None
    ) -> bool | None:
        return self._ask("send", group=group, **_payload(data, data_type), noEcho=no_echo, ackId=ack_id)

    def toss(self, group: str, data: Any, data_type: str = "text") -> None:
        self._ask("send", group=group, **_payload(data, data_type), fireAndForget=True)

    def event(self, name: str, data: Any, data_type: str = "text", *, ack_id: int | None = None) -> bool | None:
        return self._ask("event", event=name, **_payload(data, data_type), ackId=ack_id)

    def burst(self, group: str, first_ack_id: int, count: int) -> int:
        """Publish so many messages at once; how many of them had been published before."""
        repeated: int = self._call("burst", group=group, firstAckId=first_ack_id, count=count)
        return repeated

    def open_stream(self, group: str, **options: Any) -> str:
        """Open a stream; its id. Raises `JavaScriptError`."""
        stream_id: str = self._call("openStream", group=group, **options)
        return stream_id

    def write(self, stream_id: str, *fragments: Any, data_type: str = "text") -> list[Future[Any]]:
        """Write fragments; the futures are done when they are sent, which takes a connection."""
        return [
            self._node.begin("write", client=self.name, streamId=stream_id, **_payload(data, data_type))
            for data in fragments
        ]

    def end_stream(self, stream_id: str) -> Future[Any]:
        """End a stream; the future is done when that is sent."""
        return self._node.begin("endStream", client=self.name, streamId=stream_id)

    def abort_stream(self, stream_id: str, **error: str) -> None:
        """End a stream with an error."""
        self._call("abortStream", streamId=stream_id, error=error)

    def fragments(self, count: int) -> list[Any]:
        """The payloads of all fragments that arrived, which are at least so many, after their numbers."""
        return [(fragment["number"], fragment["data"]) for fragment in self.events.wait("fragment", count)]

    def invoke(self, event: str, data: Any, data_type: str = "text", **options: Any) -> Future[Any]:
        """Invoke an event; the future has ``dataType`` and ``data`` of the reply, or raises `JavaScriptError`."""
        payload = _payload(data, data_type)
        return self._node.begin("invoke", client=self.name, event=event, **payload, **options)

    def begin_event(self, name: str, data: Any, data_type: str = "text") -> Future[Any]:
        """Send an event as `event` does; the future is done when it is acknowledged."""
        return self._node.begin("event", client=self.name, event=name, **_payload(data, data_type))

    def abort(self, abortable: str) -> None:
        """Cancel the invocation that was made with this ``abortable``."""
        self._call("abort", abortable=abortable)

    def tell_service(self, kind: str, **fields: Any) -> None:
        """Send a message that the client has no method for; for clients made ``verbatim``."""
        self._call("tellService", message={"kind": kind, **fields})

    def say(self, text: str) -> None:
        """Send this text as a message of the protocol; for clients made ``verbatim``."""
        self._call("say", text=text)

    def _call(self, command: str, **arguments: Any) -> Any:
        return self._node.call(command, client=self.name, **arguments)

    def _ask(self, command: str, **arguments: Any) -> bool:
        try:
            result = self._call(command, **arguments)
        except JavaScriptError as error:
            raise Refused(error.name, str(error)) from error
        repeated: bool = result["isDuplicated"]
        return repeated


def _payload(data: Any, data_type: str) -> dict[str, Any]:
    return {"data": base64.b64encode(data).decode() if data_type in BINARY else data, "dataType": data_type}


# ---- azure-messaging-webpubsubclient

# An ack that comes before the sync client waits for it wakes nobody: the call then takes the whole timeout and
# succeeds. So it must not be long (and see `Backend.detour`).
_ONCE: dict[str, Any] = {"message_retry_total": 0, "ack_timeout": 10.0, "start_timeout": 30.0}


class _PythonClient(OfficialClient):
    """What the sync and the aio client have in common."""

    def __init__(self, url: str, *, reliable: bool = True) -> None:
        super().__init__(url, reliable=reliable)
        protocol = WebPubSubProtocolType.JSON_RELIABLE if reliable else WebPubSubProtocolType.JSON
        self._options: dict[str, Any] = {**_ONCE, "protocol_type": protocol}

    def _listeners(self) -> dict[CallbackType, Callable[[Any], None]]:
        add = self.events.add
        return {
            CallbackType.CONNECTED: lambda e: add("connected", {"connectionId": e.connection_id, "userId": e.user_id}),
            CallbackType.DISCONNECTED: lambda e: add("disconnected", {"message": e.message}),
            CallbackType.GROUP_MESSAGE: lambda e: add("message", _message(e, e.group, e.from_user_id)),
            CallbackType.SERVER_MESSAGE: lambda e: add("message", _message(e, None, None)),
            CallbackType.REJOIN_GROUP_FAILED: lambda e: add("rejoin-failed", {"group": e.group}),
        }

    @abc.abstractmethod
    def _ask(self, operation: str, *arguments: Any, **options: Any) -> None: ...

    def join(self, group: str, *, ack_id: int | None = None) -> bool | None:
        self._ask("join_group", group, **_given(ack_id=ack_id))
        return None

    def leave(self, group: str, *, ack_id: int | None = None) -> bool | None:
        self._ask("leave_group", group, **_given(ack_id=ack_id))
        return None

    def send(
        self, group: str, data: Any, data_type: str = "text", *, no_echo: bool = False, ack_id: int | None = None
    ) -> bool | None:
        self._ask("send_to_group", group, *_content(data, data_type), **_given(no_echo=no_echo, ack_id=ack_id))
        return None

    def toss(self, group: str, data: Any, data_type: str = "text") -> None:
        self._ask("send_to_group", group, *_content(data, data_type), ack=False)

    def event(self, name: str, data: Any, data_type: str = "text", *, ack_id: int | None = None) -> bool | None:
        self._ask("send_event", name, *_content(data, data_type), **_given(ack_id=ack_id))
        return None


class PythonClient(_PythonClient):
    """The blocking client; each of its callbacks runs in a thread of its own."""

    def __init__(self, url: str, background: Background, *, reliable: bool = True) -> None:
        super().__init__(url, reliable=reliable)
        self._background = background
        self._client = SyncClient(url, **self._options)
        for kind, listener in self._listeners().items():
            self._client.subscribe(kind, listener)
        self._client.subscribe(CallbackType.STOPPED, lambda: self.events.add("stopped", {}))

    def start(self) -> PythonClient:
        try:
            self._client.open()
        except OpenClientError as error:
            raise ConnectionError(str(error)) from error
        self.events.wait("connected")
        return self

    def stop(self) -> None:
        self._client.close()

    def begin_stop(self) -> None:
        # It waits for threads of its own that sleep.
        self._background.begin(asyncio.to_thread(self._client.close))

    def _ask(self, operation: str, *arguments: Any, **options: Any) -> None:
        try:
            getattr(self._client, operation)(*arguments, **options)
        except SendMessageError as error:
            raise _refused(error) from error


class PythonAioClient(_PythonClient):
    """The asyncio client, in the thread of the service."""

    def __init__(self, url: str, background: Background, *, reliable: bool = True) -> None:
        super().__init__(url, reliable=reliable)
        self._background = background

    def start(self) -> PythonAioClient:
        try:
            self._background.run(self._open())
        except OpenClientError as error:
            raise ConnectionError(str(error)) from error
        self.events.wait("connected")
        return self

    async def _open(self) -> None:
        self._client = AioClient(self.url, **self._options)
        for kind, listener in self._listeners().items():
            await self._client.subscribe(kind, _awaitable(listener))
        await self._client.subscribe(CallbackType.STOPPED, _awaitable(lambda: self.events.add("stopped", {})))
        await self._client.open()

    def stop(self) -> None:
        self._background.run(self._client.close())

    def begin_stop(self) -> None:
        # It waits up to a second for a task of its own that sleeps.
        self._background.begin(self._client.close())

    def _ask(self, operation: str, *arguments: Any, **options: Any) -> None:
        try:
            self._background.run(getattr(self._client, operation)(*arguments, **options))
        except SendMessageError as error:
            raise _refused(error) from error


def _awaitable(listener: Callable[..., None]) -> Any:
    async def call(*arguments: Any) -> None:
        listener(*arguments)

    return call


def _refused(error: SendMessageError) -> Refused:
    detail = error.error_detail
    return Refused(detail.name, detail.message) if detail is not None else Refused("SendMessageError", str(error))


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _content(data: Any, data_type: str) -> tuple[Any, WebPubSubDataType]:
    return (memoryview(data) if data_type in BINARY else data), WebPubSubDataType(data_type)


def _message(event: Any, group: str | None, from_user_id: str | None) -> Message:
    data = bytes(event.data) if isinstance(event.data, memoryview) else event.data
    return Message(group, str(WebPubSubDataType(event.data_type).value), data, from_user_id, event.sequence_id)
