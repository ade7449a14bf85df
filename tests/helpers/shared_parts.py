"""The objects that all idle sessions of a process share, and what is in them."""

from __future__ import annotations

from typing import Any, Final

from limpet_core.client.deadlines import NO_DEADLINES
from limpet_core.client.group_states import NO_GROUP_STATES
from limpet_core.client.invocations import NO_INVOCATIONS
from limpet_core.client.streams import NO_STREAMS
from limpet_core.nothing import NOTHING

SHARED: Final[tuple[Any, ...]] = (NO_DEADLINES, NO_GROUP_STATES, NO_INVOCATIONS, NO_STREAMS)

_SLOTS: Final = [(shared, name) for shared in SHARED for name in type(shared).__slots__]

_OF_NO_MATTER: Final = "_ready"
"""Whether the session that was connected or lost last has a transport: with nothing to send, nobody looks."""


def contents() -> list[str]:
    """Return all that is in the shared objects: no session may ever change it."""
    named = [
        f"{type(shared).__name__}.{name}: {getattr(shared, name)!r}" for shared, name in _SLOTS if name != _OF_NO_MATTER
    ]
    return [*named, repr(NOTHING)]


UNTOUCHED: Final = contents()
