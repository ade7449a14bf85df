"""Sessions of one process share what most of them do not need: whatever one does, no other one notices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.driving import OWN, Drive, hello, news, observed, ok, refused
from tests.helpers.profiles import examples
from tests.helpers.shared_parts import UNTOUCHED, contents

from limpet import LimpetError, State

Step = Callable[[Drive], object]

CALLS: dict[str, Step] = {
    "join": lambda drive: drive.session.join_group("g", drive.now),
    "join in time": lambda drive: drive.session.join_group("g", drive.now, timeout=5.0),
    "leave": lambda drive: drive.session.leave_group("g", drive.now),
    "send": lambda drive: drive.session.send_to_group("g", "x", drive.now),
    "event": lambda drive: drive.session.send_event("e", "x", drive.now),
    "withdraw": lambda drive: drive.session.withdraw(1),
    "cancel": lambda drive: drive.session.cancel_invocation("1", drive.now),
    "write": lambda drive: drive.session.write_stream("s", "x", drive.now),
    "end": lambda drive: drive.session.end_stream("s", drive.now),
    "abort": lambda drive: drive.session.abort_stream("s", "no more", drive.now),
    "look": lambda drive: (drive.session.stats, drive.session.stream_has_room("s"), repr(drive.session)),
    "states": lambda drive: drive.session.group_states("g"),
}
"""What an idle session may be asked for, too."""

USES: dict[str, Step] = {
    "set": lambda drive: drive.session.set_group_state("g", {"a": "1"}, drive.now),
    "clear": lambda drive: drive.session.clear_group_state("g", drive.now),
    "watch": lambda drive: drive.session.subscribe_group_states("g", drive.now),
    "unwatch": lambda drive: drive.session.unsubscribe_group_states("g", drive.now),
    "invoke": lambda drive: drive.session.invoke("e", None, drive.now, invocation_id="1"),
    "stream": lambda drive: drive.session.open_stream("g", drive.now, stream_id="s"),
}
"""What makes parts of a session's own."""


def come_back(drive: Drive) -> None:
    if drive.state is State.STOPPED:
        drive.start()
    if drive.session.dial is None:
        drive.until_dial()
    drive.open()
    drive.says({"type": "pong"} if drive.dial.recovery else hello(f"c{int(drive.now)}"))


def come_again(drive: Drive) -> None:
    drive.lose()
    come_back(drive)
    drive.session.messages_to_send()


LIFE: dict[str, Step] = {
    "come back": come_back,
    "come again": come_again,
    "drop": lambda drive: drive.drop(),
    "lose": lambda drive: drive.lose(),
    "stop": lambda drive: drive.session.stop(drive.now),
    "time": lambda drive: drive.advance(3.0),
    "drain": lambda drive: (drive.session.messages_to_send(), drive.session.events()),
}

ITEM = {"connectionId": "c1", "updatedAt": 1.0, "state": {"a": "1"}}
STREAM = {"streamId": "s", "expectedSequenceId": 1}
MESSAGES: list[Any] = [
    {"type": "groupStateUpdate", "group": "g", "items": [ITEM]},
    {"type": "groupStateSnapshot", "group": "g", "items": [ITEM]},
    STREAM | {"type": "streamAck"},
    STREAM | {"type": "streamNack", "name": "TransientError", "message": "m"},
    STREAM | {"type": "streamNack", "name": "Terminated", "message": "m"},
    {"type": "streamClosed", "streamId": "s"},
    {"type": "invokeResponse", "invocationId": "1", "success": True},
    {"type": "invokeResponse", "invocationId": "1", "success": False, "error": {"name": "n", "message": "m"}},
    news(1),
    hello("c9"),
    *(ok(number) for number in (1, 2, 3, OWN, OWN + 1, OWN + 2)),
    *(refused(number, name) for number in (1, 2, OWN) for name in ("Forbidden", "InternalServerError")),
]

STEPS = st.one_of(
    st.sampled_from([*CALLS.values()]),
    st.sampled_from([*LIFE.values()]),
    st.sampled_from([come_back, LIFE["drain"], CALLS["join"]]),
    st.sampled_from(MESSAGES).map(lambda message: lambda drive: drive.says(message)),
)
ANY = st.one_of(STEPS, st.sampled_from([*USES.values()]))


def take(drive: Drive, step: Step) -> None:
    with suppress(LimpetError, AssertionError):  # the second: there is no dial to open
        step(drive)


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(STEPS, ANY), max_size=40))
def test_what_a_busy_session_does_an_idle_one_never_notices(steps: list[tuple[Step, Step]]) -> None:
    idle, busy, alone = Drive(), Drive(), Drive()
    for drive in (idle, busy, alone):
        drive.connect()
        drive.session.join_group("g", drive.now)
        drive.session.messages_to_send()
        drive.says(ok(1))
    for own, of_the_other in steps:
        take(busy, of_the_other)
        take(idle, own)
        assert contents() == UNTOUCHED
    for own, _ in steps:
        take(alone, own)
    assert observed(idle) == observed(alone)
