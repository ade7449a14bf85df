"""What is held to the checks: a driver, and the way to make one and to call it."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar, runtime_checkable

from limpet import Event, InvalidType, InvalidValue, Options, State

T = TypeVar("T")

Url = str | Callable[[], str]
"""A Client Access URL, or a plain function that returns one, for drivers that take one."""

Need = Literal["url function", "pause", "status", "close codes", "size limit", "backpressure"]
"""What a check needs of a driver, beyond :class:`Driver`.

``url function``: the driver takes a function in place of a URL. ``pause``: it is a :class:`PausingDriver`. ``status``:
its transport tells the HTTP status of a refused handshake. ``close codes``: its transport can send every close code.
``size limit``: it keeps ``max_message_size`` before a message is taken in. ``backpressure``: its transport tells when
it is full.
"""

NEEDS: Final[frozenset[Need]] = frozenset(
    ("url function", "pause", "status", "close codes", "size limit", "backpressure")
)
"""All of them."""


class Driver(Protocol):
    """One client on an event loop: a :class:`limpet.Session` with its transports and timer.

    No method waits: answers are events, which the driver passes to the function that it was made with, in order and one
    at a time. That function may call the driver. Wrong use raises :class:`limpet.LocalProtocolError` and changes
    nothing, exactly as the methods of a session do.
    """

    @property
    def state(self) -> State:
        """The state of the session."""
        ...

    def start(self) -> None:
        """Connect; the answer is ``Connected``, or ``Stopped`` with an error."""
        ...

    def stop(self) -> None:
        """Stop, in any state; the answer is ``Stopped``. On a stopped driver nothing happens."""
        ...

    def join_group(self, group: str) -> int:
        """Ask to join; the answer is the ``Acked`` with the ack id that is returned."""
        ...

    def leave_group(self, group: str) -> int:
        """Ask to leave."""
        ...

    def send_to_group(self, group: str, data: Any, *, ack: bool = True) -> int | None:
        """Publish to a group; without an ack the result is None, and there is no answer."""
        ...

    def send_event(self, event: str, data: Any, *, ack: bool = True) -> int | None:
        """Send an event to the application server."""
        ...

    def close(self) -> None:
        """Drop the transport and the timer, in any state and without waiting: nothing happens after that.

        The last call to a driver. Repeats do nothing.
        """
        ...


@runtime_checkable
class PausingDriver(Driver, Protocol):
    """A driver whose application can be too slow."""

    def pause(self) -> None:
        """Read no more than is on its way: ``session.reading_paused(now)``."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


class Make(Protocol):
    """Makes a driver, which is not started yet; called where :attr:`Candidate.call` calls."""

    def __call__(self, url: Url, options: Options, handle: Callable[[Event], None], /) -> Driver:
        """Make a driver that passes each event to ``handle``."""
        ...


def directly(function: Callable[[], T]) -> T:
    """Call ``function`` in the thread of the check: for drivers whose methods may be called by any thread."""
    return function()


@dataclass(frozen=True)
class Candidate:
    """A driver that is to be held to the checks.

    Attributes:
        name: for reports.
        make: makes one.
        call: runs a function in the thread of the event loop, which runs all the time, and returns what that returns or
            raises what that raises. The checks make and call drivers in there. By default the checks' own thread.
        lacks: the needs that the driver does not fulfil; checks with such a need are left out.

    Raises:
        InvalidType: ``make`` or ``call`` is no function, or ``lacks`` no set.
        InvalidValue: a need does not exist; the message names all of them.
    """

    name: str
    make: Make
    call: Callable[[Callable[[], Any]], Any] = directly
    lacks: frozenset[Need] = frozenset()

    def __post_init__(self) -> None:
        for name in ("make", "call"):
            value: object = getattr(self, name)
            if not callable(value):
                raise InvalidType(f"{name} must be a function, not {type(value).__name__}")
        lacks: Any = self.lacks
        if not isinstance(lacks, Set):
            raise InvalidType(f"lacks must be a set of needs, such as frozenset({{'pause'}}), not {lacks!r}")
        unknown = [repr(need) for need in self.lacks if need not in NEEDS]
        if unknown:
            raise InvalidValue(f"lacks has {', '.join(unknown)}; the needs are {', '.join(sorted(NEEDS))}")
