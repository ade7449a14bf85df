"""Types of events: the log of a service has those of ``limpet.testing.trace``, a client those of ``limpet``."""

from __future__ import annotations

from types import UnionType
from typing import Final, Union, cast, get_args, get_origin

from limpet import Event
from limpet_core.service.trace import TraceEvent
from limpet_core.text import short_repr

_OF_SERVICE: Final[tuple[type, ...]] = get_args(TraceEvent)
_OF_CLIENT: Final[tuple[type, ...]] = get_args(Event)


def check_kind_of_service(kind: object) -> None:
    """Raise TypeError unless events of the log of a service are of this type, or of one of a tuple or union."""
    for one in _each(kind):
        if _is_none_of(one, _OF_SERVICE):
            raise TypeError(
                f"limpet.{one.__name__} is an event of a client; the log has {_same_name(one, 'trace', _OF_SERVICE)}"
                if isinstance(one, type) and one in _OF_CLIENT
                else f"a type of limpet.testing.trace is needed, not {short_repr(one)}"
            )


def check_kind_of_client(kind: object) -> None:
    """Raise TypeError unless events of a client are of this type, or of one of a tuple or union."""
    for one in _each(kind):
        if _is_none_of(one, _OF_CLIENT):
            raise TypeError(
                f"trace.{one.__name__} is an event of the service; a client has {_same_name(one, 'limpet', _OF_CLIENT)}"
                if isinstance(one, type) and one in _OF_SERVICE
                else f"an event type of limpet is needed, not {short_repr(one)}"
            )


def names(kind: object) -> str:
    """Return the names of a type, or of those of a tuple or union, which have passed their check."""
    return " or ".join(cast("type", one).__name__ for one in _each(kind))


def _each(kind: object) -> tuple[object, ...]:
    if isinstance(kind, tuple):
        several = cast("tuple[object, ...]", kind)
        return several or (several,)  # an empty tuple is no type either
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _is_none_of(kind: object, known: tuple[type, ...]) -> bool:
    return not (isinstance(kind, type) and any(issubclass(one, kind) for one in known))


def _same_name(kind: type, package: str, known: tuple[type, ...]) -> str:
    same = any(one.__name__ == kind.__name__ for one in known)
    return f"{package}.{kind.__name__}" if same else f"the types of {'limpet.testing.' * (package == 'trace')}{package}"
