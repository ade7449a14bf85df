"""The open buffers of a client, and which of them want an event. No event loop in here."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final, Generic, Protocol, TypeVar

from limpet import Event, GroupMessage, GroupStatesChanged
from limpet_core.nothing import NOTHING

_of_groups: frozenset[type] = frozenset({GroupMessage, GroupStatesChanged})
_opened = attrgetter("number")


class Indexed(Protocol):
    """What the index looks at; see :class:`limpet._clients.buffers.Buffer`."""

    types: frozenset[type]
    group: str | None
    number: int


B = TypeVar("B", bound=Indexed)


class OpenBuffers(dict[B, None], Generic[B]):
    """The open buffers, in the order in which they were opened, and an index of what each wants.

    Without the index, each message would cost as much as there are subscriptions, most of them of other groups.

    Any thread may open and close buffers, at any moment: that is one step of the interpreter, and a note for the index.
    Only the thread that delivers touches the index, which may still know buffers that were closed meanwhile.

    Attributes:
        changed: buffers that the index is to take in or to leave out.
    """

    __slots__ = ("_index", "_last", "changed")

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[B, None] = {}
        self._index: dict[tuple[type, str | None], dict[B, None]] | None = None  # made when needed
        self._last = 0

    # ---- For any thread

    def add(self, buffer: B) -> None:
        """Open a buffer: it gets all later events that it wants."""
        self[buffer] = None
        self.changed[buffer] = None

    def discard(self, buffer: B) -> None:
        """Close a buffer: it gets no more events. Repeats do nothing."""
        self.pop(buffer, None)
        if buffer.number:
            self.changed[buffer] = None
        else:
            self.changed.pop(buffer, None)  # opened and closed with no event between: nothing is left of it

    # ---- For the thread that delivers

    def catch_up(self) -> None:
        """Bring the index up to date with :attr:`changed`."""
        changed = list(self.changed)  # in one step, and so in the order in which they were opened
        index = self._index
        if index is None:
            index = self._index = {}
        for buffer in changed:
            self.changed.pop(buffer, None)  # before the look: what a thread does to the buffer later is noted anew
            if not buffer.number:
                self._last += 1
                buffer.number = self._last  # before the look: a thread that closes the buffer now makes a note
            for kind in buffer.types:
                key = kind, buffer.group if kind in _of_groups else None
                if buffer in self:
                    index.setdefault(key, {})[buffer] = None
                elif (takers := index.get(key)) is not None:
                    takers.pop(buffer, None)
                    if not takers:
                        del index[key]

    def takers(self, event: Event) -> Iterable[B]:
        """Return the buffers that may want ``event``, in the order in which they were opened.

        Ask each whether it does, and see whether it is still open: one of them, or another thread, may close it.
        """
        if self.changed:
            self.catch_up()
        index = self._index
        if index is None:
            return ()
        kind = type(event)
        everywhere = index.get((kind, None))
        if type(event) is GroupMessage or type(event) is GroupStatesChanged:
            in_group = index.get((kind, event.group))
            if in_group is not None:
                return tuple(in_group) if everywhere is None else sorted((*everywhere, *in_group), key=_opened)
        return () if everywhere is None else tuple(everywhere)


NO_BUFFERS: Final[OpenBuffers[Any]] = OpenBuffers()
"""In place of the open buffers of a client before the first one, which all clients share: none is added to it."""

NO_BUFFERS.changed = NOTHING
