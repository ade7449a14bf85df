"""One call at a time: what a session refuses before a call changes anything."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from limpet_core.errors import InvalidType, InvalidValue, LocalProtocolError
from limpet_core.text import shown_number

_LARGEST: Final = sys.float_info.max


class Called(Protocol):
    """The session; ``running`` is the name of the method that runs, empty for none."""

    running: str


P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=Called)


def alone(method: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """Refuse to run ``method`` while another call of the session runs, and at a time that is none.

    Methods that every message or request needs have the same lines in their bodies, which saves a call.
    """
    parameters = [*inspect.signature(method).parameters]
    at = parameters.index("now") - 1 if "now" in parameters else None

    @functools.wraps(method)
    def alone(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self.running:
            raise reentered(self, method.__name__)
        if at is not None:
            check_seconds(args[at] if at < len(args) else kwargs.get("now", 0.0))
        try:
            self.running = method.__name__
            return method(self, *args, **kwargs)
        finally:
            self.running = ""

    return alone


def reentered(session: Called, name: str) -> LocalProtocolError:
    """Return the error of a call ``name`` that comes while another one runs."""
    return LocalProtocolError(
        f"Session.{name} was called while Session.{session.running} runs, and did nothing. One call at a time: other "
        "threads need a lock around each call and its drain; a signal handler or finalizer has the loop call later"
    )


def check_seconds(value: object, name: str = "now") -> None:
    """Raise InvalidType or InvalidValue unless ``value`` is a finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidType(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not -_LARGEST <= value <= _LARGEST:  # NaN is not, either, nor an int that is too large for a float
        raise InvalidValue(f"{name} must be finite, not {shown_number(value)}")
