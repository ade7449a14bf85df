"""Each part of a snapshot is needed: without it, or in another order, the new node is seen to be another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests.core.service.cluster.account import picture
from tests.core.service.cluster.nodes import Node
from tests.core.service.cluster.schedule import LIMITS, Schedule

from limpet_core.service.cluster import records
from limpet_core.service.cluster.members import Member
from limpet_core.service.cluster.restoring import Restoring

Values = tuple[list[records.SavedConnection], list[records.SavedPublication], records.SavedState]

RECORDS: tuple[type[msgspec.Struct], ...] = (
    records.SavedStream, records.QueuedMessage, records.QueuedEvent, records.SavedContext, records.SavedConnection,
    records.SavedPublication, records.SavedHub, records.SavedGroupStates, records.OfConnected, records.OfEvent,
    records.OfInvocation, records.SavedCall, records.SavedState, Member,
)  # fmt: skip


def schedules() -> Iterator[tuple[Schedule, Values, Any]]:
    """Return snapshots of schedules, and pictures of what they are snapshots of."""
    for seed in range(100, 200):
        schedule = Schedule(seed)
        for _ in range(60):
            schedule.step()
            if schedule.random.random() < 0.1:
                schedule.begin_node()
            if schedule.random.random() < 0.2:
                node = schedule.random.choice(schedule.cluster.up)
                yield schedule, opened(node.replica.snapshot()), picture(node.replica.shared)


_source = schedules()
_made: list[tuple[Schedule, Values, Any]] = []


def saved(most: int) -> Iterator[tuple[Schedule, Values, Any]]:
    """Return what :func:`schedules` does; most tests need little of it, and all the same."""
    for number in range(most):
        if number == len(_made):
            _made.append(next(_source))
        yield _made[number]


def opened(data: bytes) -> Values:
    _, raw = msgspec.msgpack.decode(data, type=tuple[int, msgspec.Raw])
    pieces = msgspec.msgpack.decode(raw, type=records.Pieces)
    connections = [
        each
        for piece in pieces.connections
        for each in msgspec.msgpack.decode(piece, type=list[records.SavedConnection])
    ]
    publications = [
        each
        for piece in pieces.publications
        for each in msgspec.msgpack.decode(piece, type=list[records.SavedPublication])
    ]
    return connections, publications, msgspec.msgpack.decode(pieces.state, type=records.SavedState)


def change(value: Any, cls: type, field: str, how: Callable[[Any], Any]) -> Any:
    """Return a value in which a field of all records of a class is changed."""
    if isinstance(value, list | tuple):
        return type(value)(change(each, cls, field, how) for each in value)
    if not isinstance(value, msgspec.Struct):
        return value
    parts = {name: change(getattr(value, name), cls, field, how) for name in value.__struct_fields__}
    if type(value) is cls:
        parts[field] = how(parts[field])
    return msgspec.structs.replace(value, **parts)


def forgotten(value: Any) -> Any:
    return None if value is None or isinstance(value, msgspec.Struct) else type(value)()


def turned(value: Any) -> Any:
    """Return a list or a dictionary in the other order."""
    return dict(reversed(value.items())) if isinstance(value, dict) else type(value)(reversed(value))


def part(index: int, how: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change a part of a tuple, or of each tuple in a list."""

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(each) for each in value]
        return tuple(how(each) if place == index else each for place, each in enumerate(value))

    return changed


def is_missed(cls: type, field: str, how: Callable[[Any], Any], most: int = 1000) -> bool:
    """Return whether a node shows that what it began with was changed."""
    for schedule, values, expected in saved(most):
        node = Node(schedule.cluster, "new", LIMITS, b"same")
        try:
            Restoring(node.replica.shared, *change(values, cls, field, how)).install()
            if picture(node.replica.shared) != expected:
                return True
        except (AssertionError, AttributeError, LookupError, ValueError):
            return True
    return False


def fields() -> Iterator[Any]:
    for cls in RECORDS:
        for field in cls.__struct_fields__:
            yield pytest.param(cls, field, id=f"{cls.__name__}.{field}")


@pytest.mark.parametrize(("cls", "field"), list(fields()))
def test_what_is_forgotten_is_missed(cls: type, field: str) -> None:
    assert is_missed(cls, field, forgotten)


@pytest.mark.parametrize(
    ("cls", "field"),
    [
        (records.SavedConnection, "groups"),
        (records.SavedConnection, "retained"),
        (records.SavedConnection, "streams"),
        (records.SavedConnection, "ended_streams"),
        (records.SavedConnection, "states"),
        (records.SavedConnection, "watched"),
        (records.SavedContext, "queue"),
        (records.SavedContext, "cookies"),
        (records.SavedGroupStates, "members"),
        (records.SavedGroupStates, "watchers"),
        (records.SavedHub, "users"),
        (records.SavedHub, "groups"),
        (records.SavedState, "members"),
        (records.SavedState, "gone"),
        (records.SavedState, "hubs"),
        (records.SavedState, "detached"),
        (records.SavedState, "timers"),
        (records.SavedState, "calls"),
        (records.SavedState, "held"),
        (records.SavedState, "states"),
        (records.SavedState, "digests"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_another_order_is_noticed(cls: type, field: str) -> None:
    assert is_missed(cls, field, turned)


@pytest.mark.parametrize(
    ("cls", "field", "index", "how"),
    [
        *((records.SavedConnection, "acks", index, how) for index in (0, 2) for how in (forgotten, turned)),
        *((records.SavedConnection, name, index, forgotten) for name in ("join_leave", "send") for index in (0, 1, 2)),
        *((records.SavedConnection, "place", index, forgotten) for index in (0, 1)),
        *((records.SavedHub, "groups", 1, how) for how in (forgotten, turned)),
        (records.SavedContext, "queue", 1, forgotten),
        (records.SavedState, "detached", 1, forgotten),
        (records.SavedState, "timers", 0, forgotten),
        (records.SavedState, "held", 0, forgotten),
        (records.SavedStream, "fault", 1, forgotten),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_a_part_of_what_is_saved_is_missed(cls: type, field: str, index: int, how: Callable[[Any], Any]) -> None:
    assert is_missed(cls, field, lambda value: None if value is None else part(index, how)(value))


def test_nothing_is_missed_without_a_change() -> None:
    assert not is_missed(records.SavedState, "position", str, most=100)
