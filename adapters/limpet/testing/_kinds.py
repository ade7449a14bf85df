"""Types of events: the log of a service has those of ``limpet.testing.trace``, a client those of ``limpet``."""

from __future__ import annotations

from types import UnionType
from typing import Final, NamedTuple, Union, cast, get_args, get_origin

from limpet import Event
from limpet_core.service.trace import TraceEvent
from limpet_core.text import short_repr


class _Side(NamedTuple):
    """The events of one side.

    Attributes:
        types: of the events.
        module: has the types.
        name: of the module, in programs.
        owner: whose events they are.
        place: has them.
    """

    types: tuple[type, ...]
    module: str
    name: str
    owner: str
    place: str


_SERVICE: Final = _Side(get_args(TraceEvent), "limpet.testing.trace", "trace", "the service", "the log")
_CLIENT: Final = _Side(get_args(Event), "limpet", "limpet", "a client", "a client")


def check_kind_of_service(kind: object) -> None:
    """Raise TypeError unless events of the log of a service are of this type, or of one of a tuple or union."""
    _check(kind, _SERVICE, _CLIENT)


def check_kind_of_client(kind: object) -> None:
    """Raise TypeError unless events of a client are of this type, or of one of a tuple or union."""
    _check(kind, _CLIENT, _SERVICE)


def names(kind: object) -> str:
    """Return the names of a type, or of those of a tuple or union, which have passed their check."""
    return " or ".join(cast("type", one).__name__ for one in _each(kind))


def _check(kind: object, own: _Side, other: _Side) -> None:
    for one in _each(kind):
        if isinstance(one, type) and any(issubclass(known, one) for known in own.types):
            continue
        if not isinstance(one, type) or one not in other.types:
            raise TypeError(f"an event type of {own.module} is needed, not {short_repr(one)}")
        namesake = any(known.__name__ == one.__name__ for known in own.types)
        right = f"{own.name}.{one.__name__}" if namesake else f"the types of {own.module}"
        raise TypeError(f"{other.name}.{one.__name__} is an event of {other.owner}; {own.place} has {right}")


def _each(kind: object) -> tuple[object, ...]:
    if isinstance(kind, tuple):
        several = cast("tuple[object, ...]", kind)
        return several or (several,)  # an empty tuple is no type either
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
