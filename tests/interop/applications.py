"""Application servers made with @azure/web-pubsub-express."""

from __future__ import annotations

import itertools
from typing import Any

from tests.interop.events import Events
from tests.interop.node import Node


class Application:
    """One Express application with the official middleware, for one hub.

    Its `events` are ``request`` (every HTTP request: method, url, headers) and what the middleware made of them,
    by the event's name.
    """

    _names = itertools.count(1)

    def __init__(self, node: Node, hub: str = "chat", **options: Any) -> None:
        self.events = Events()
        self._name = f"application-{next(self._names)}"
        self._node = node
        node.listen(self._name, self.events.add)
        self.url: str = node.call("open", server=self._name, hub=hub, **options)

    def allow(self, *endpoints: str) -> None:
        """Serve only these services from now on."""
        self._node.call("allow", server=self._name, endpoints=endpoints)

    def behave(self, event: str, *answers: dict[str, Any]) -> None:
        """Queue answers to an event.

        Each may have ``states`` (to set), ``fail`` (code, detail), ``hold`` (until `release`), ``accept`` (of a
        connect) and ``reply`` (data, dataType). Without one, events are echoed and clients accepted as they are.
        """
        self._node.call("behave", server=self._name, event=event, answers=list(answers))

    def release(self) -> None:
        """Answer what is held."""
        self._node.call("release", server=self._name)

    def close(self) -> None:
        self._node.call("close", server=self._name)

    def headers(self, event: str, count: int = 1) -> dict[str, str]:
        """The headers of the newest of so many requests about an event."""
        self.events.wait(event, count)
        requests = (request["headers"] for request in reversed(self.events.of("request")))
        newest: dict[str, str] = next(headers for headers in requests if headers.get("ce-eventname") == event)
        return newest
