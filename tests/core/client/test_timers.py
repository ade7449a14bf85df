"""Timer slots."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from limpet_core.client.timers import Timer, Timers


def test_nothing_is_due_at_first() -> None:
    timers = Timers()
    assert timers.deadline == math.inf
    assert timers.expired(1e300) == []


def test_what_is_due_comes_in_the_order_of_the_deadlines() -> None:
    timers = Timers()
    timers.set(Timer.PING, 3.0)
    timers.set(Timer.CLOSE, 1.0)
    timers.set(Timer.CONNECT, 2.0)
    assert timers.deadline == 1.0
    assert timers.expired(0.5) == []
    assert timers.expired(2.0) == [Timer.CLOSE, Timer.CONNECT]
    assert timers.expired(9.0) == [Timer.CLOSE, Timer.CONNECT, Timer.PING]


def test_a_timer_can_be_moved_and_stopped() -> None:
    timers = Timers()
    timers.set(Timer.PING, 3.0)
    timers.set(Timer.PING, 5.0)
    assert (timers.deadline, timers[Timer.PING]) == (5.0, 5.0)
    timers.stop(Timer.PING, Timer.CLOSE)
    assert (timers.deadline, timers[Timer.PING]) == (math.inf, math.inf)


@given(st.lists(st.tuples(st.sampled_from(Timer), st.one_of(st.none(), st.floats(0, 100)))))
def test_the_deadline_is_always_the_earliest(steps: list[tuple[Timer, float | None]]) -> None:
    timers, armed = Timers(), dict.fromkeys(Timer, math.inf)
    for timer, deadline in steps:
        if deadline is None:
            timers.stop(timer)
        else:
            timers.set(timer, deadline)
        armed[timer] = math.inf if deadline is None else deadline
        assert timers.deadline == min(armed.values())
