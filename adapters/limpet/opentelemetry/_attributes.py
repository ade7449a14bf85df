"""The attributes of spans and metrics: few values each, and none that a peer can choose."""

from __future__ import annotations

from collections.abc import Callable

from limpet import ClientInfo, InvocationError, SendError

Attributes = dict[str, str | int]

SYSTEM = "webpubsub"
"""The value of ``messaging.system``: the conventions have none for this service."""

_KINDS = {"send_to_group": "send", "send_event": "send", "invoke": "send"}

_OF_EVENTS = frozenset({"send_event", "invoke"})

# The names that the service and Limpet give to errors; any other text of a peer is not for an attribute of a metric.
_ERROR_NAMES = frozenset(
    {
        "BadRequest", "Cancelled", "ConnectionLost", "Duplicate", "Forbidden", "InternalServerError", "InvalidReply",
        "NotFound", "Stopped", "Superseded", "Timeout", "TooManyRequests", "Unauthorized",
    }
)  # fmt: skip

Groups = Callable[[str], str | None]
"""What stands for the name of a group where there must be few different ones; None: nothing."""


def of_operation(operation: str, kind: str | None = None) -> Attributes:
    """Return the attributes of an operation: its system, name and type."""
    attributes: Attributes = {"messaging.system": SYSTEM, "messaging.operation.name": operation}
    kind = kind or _KINDS.get(operation)
    if kind is not None:
        attributes["messaging.operation.type"] = kind
    return attributes


def of_server(client: ClientInfo | None) -> Attributes:
    """Return the attributes of the service that a client talks to, as far as they are known."""
    if client is None or client.server_address is None or client.server_port is None:
        return {}
    return {"server.address": client.server_address, "server.port": client.server_port}


def of_destination(group: str | None, groups: Groups | None) -> Attributes:
    """Return the attributes of a group for metrics: its name, or what stands for many such names."""
    shown = groups(group) if groups is not None and group is not None else None
    if shown is None:
        return {}
    return {"messaging.destination.name" if shown == group else "messaging.destination.template": shown}


def of_target(operation: str, target: str, groups: Groups | None) -> Attributes:
    """Return the attributes of the target of a request for metrics. The names of events are few, and the program's."""
    if operation in _OF_EVENTS:
        return {"messaging.destination.name": target}
    return of_destination(target, groups)


def of_error(error: BaseException | None) -> Attributes:
    """Return the attributes of what a call raised."""
    if error is None:
        return {}
    if isinstance(error, SendError | InvocationError):
        name = error.name if error.name in _ERROR_NAMES else "_OTHER"
        return {"error.type": name, "limpet.outcome": error.outcome}
    if not isinstance(error, Exception):
        return {"error.type": "cancelled"}
    kind = type(error)
    return {
        "error.type": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    }


def span_name(operation: str, attributes: Attributes) -> str:
    """Return the name of a span: its operation, and its destination as far as there are few."""
    destination = attributes.get("messaging.destination.template") or attributes.get("messaging.destination.name")
    return f"{operation} {destination}" if destination else operation
