"""Options and Backoff: what is promised by default, and what cannot be chosen."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import JSON, RELIABLE_JSON, Backoff, InvalidType, InvalidValue, Options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocol", RELIABLE_JSON),
        ("auto_reconnect", True),
        ("auto_rejoin_groups", True),
        ("reconnect", Backoff(initial=1.0, maximum=30.0, multiplier=2.0, jitter=1.0, limit=None)),
        ("retry", Backoff(initial=1.0, maximum=30.0, multiplier=1.0, jitter=0.0, limit=3)),
        ("first_connection", None),
        ("max_retry_after", 120.0),
        ("resend", "safe"),
        ("connect_timeout", 30.0),
        ("ack_timeout", 30.0),
        ("request_timeout", None),
        ("close_timeout", 5.0),
        ("recovery_timeout", 30.0),
        ("recovery_interval", 1.0),
        ("keepalive_interval", 20.0),
        ("keepalive_timeout", 120.0),
        ("sequence_ack_interval", 1.0),
        ("sequence_ack_messages", 100),
        ("sequence_ack_bytes", 1 << 20),
    ],
)
def test_the_defaults_are_as_promised(name: str, value: object) -> None:
    assert getattr(Options(), name) == value


SECONDS = ["connect_timeout", "close_timeout", "ack_timeout", "request_timeout"]
SECONDS_OR_0 = ["recovery_timeout", "recovery_interval", "sequence_ack_interval", "max_retry_after"]
SECONDS_OR_OFF = ["keepalive_interval", "keepalive_timeout"]
COUNTS = [
    "sequence_ack_messages",
    "sequence_ack_bytes",
    "max_message_size",
    "max_request_size",
    "max_pending_requests",
    "max_buffered_messages",
    "max_streams",
    "max_stream_unacked",
]
REFUSED: list[tuple[str, Any, type[Exception]]] = [
    ("protocol", "mqtt", InvalidValue),
    ("resend", "never", InvalidValue),
    ("auto_reconnect", 1, InvalidType),
    ("auto_rejoin_groups", "yes", InvalidType),
    ("reconnect", 5, InvalidType),
    ("retry", None, InvalidType),
    ("first_connection", True, InvalidType),
    ("sequence_ack_messages", 1001, InvalidValue),
    ("sequence_ack_bytes", 16_000_001, InvalidValue),
    *((name, 0, InvalidValue) for name in SECONDS + COUNTS),
    *((name, -1, InvalidValue) for name in SECONDS + SECONDS_OR_0 + SECONDS_OR_OFF + COUNTS),
    *((name, math.nan, InvalidValue) for name in SECONDS + SECONDS_OR_0 + SECONDS_OR_OFF),
    *((name, "5", InvalidType) for name in SECONDS + SECONDS_OR_0 + SECONDS_OR_OFF + COUNTS),
    *((name, True, InvalidType) for name in SECONDS + SECONDS_OR_0 + SECONDS_OR_OFF + COUNTS),
    *((name, 1.5, InvalidType) for name in COUNTS),
    *((name, None, InvalidType) for name in ["connect_timeout", "close_timeout", *SECONDS_OR_0, *COUNTS]),
]


@pytest.mark.parametrize(("name", "value", "kind"), REFUSED)
def test_an_option_that_can_not_be_used_is_refused_by_name(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=name):
        Options(**{name: value})


@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan])
def test_what_a_time_may_be_is_told_in_full(value: float) -> None:
    with pytest.raises(InvalidValue, match=f"^close_timeout must be more than 0 seconds; not {value!r}$"):
        Options(close_timeout=value)
    with pytest.raises(
        InvalidValue, match=f"^ack_timeout must be more than 0 seconds, or None for never; not {value!r}$"
    ):
        Options(ack_timeout=value)


@pytest.mark.parametrize(
    "chosen",
    [{name: None} for name in ["ack_timeout", "request_timeout", *SECONDS_OR_OFF]]
    + [{name: 0} for name in SECONDS_OR_0 + SECONDS_OR_OFF]
    + [{name: 1} for name in COUNTS]
    + [{"connect_timeout": 5}, {"connect_timeout": math.inf}],
)
def test_the_limits_of_what_can_be_chosen(chosen: dict[str, Any]) -> None:
    Options(**chosen)


def test_options_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Options().ack_timeout = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Backoff().limit = 5  # type: ignore[misc]


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Options(JSON)  # type: ignore[misc]


@pytest.mark.parametrize(("protocol", "reliable"), [(JSON, False), (RELIABLE_JSON, True)])
def test_the_protocol_decides_whether_there_is_recovery(protocol: str, reliable: bool) -> None:
    assert Options(protocol=protocol).reliable is reliable


# ---- Backoff


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff(jitter=0.0), [1, 2, 4, 8, 16, 30, 30]),
        (Backoff(initial=0.5, multiplier=3, maximum=10, jitter=0), [0.5, 1.5, 4.5, 10, 10]),
        (Backoff(initial=2, multiplier=1, jitter=0), [2, 2, 2]),
        (Backoff(initial=0, maximum=0, jitter=0), [0, 0]),
        (Backoff(), [0.75, 1.5, 3, 6, 12, 22.5]),
        (Backoff(jitter=0.5), [0.875, 1.75, 3.5]),
    ],
)
def test_the_delays_of_a_backoff(backoff: Backoff, delays: list[float]) -> None:
    assert [backoff.delay(n, lambda: 0.25) for n in range(1, len(delays) + 1)] == delays


def test_no_randomness_is_drawn_without_jitter() -> None:
    def draw() -> float:
        raise AssertionError

    assert Backoff(jitter=0).delay(1, draw) == 1


@given(
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, allow_infinity=False), st.floats(0, 1), st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_a_delay_is_never_below_zero_nor_above_the_maximum(
    initial: float, more: float, multiplier: float, jitter: float, attempt: int, draw: float
) -> None:
    backoff = Backoff(initial=initial, maximum=initial + more, multiplier=multiplier, jitter=jitter)
    assert 0 <= backoff.delay(attempt, lambda: draw) <= backoff.maximum


@pytest.mark.parametrize(("limit", "allowed"), [(None, 10**9), (0, 0), (1, 1), (7, 7)])
def test_the_limit_of_a_backoff(limit: int | None, allowed: int) -> None:
    backoff = Backoff(limit=limit)
    assert all(backoff.allows(n) for n in (1, allowed) if n <= allowed)
    if limit is not None:
        assert not backoff.allows(allowed + 1)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"initial": -1}, "initial"),
        ({"initial": "1"}, "initial"),
        ({"initial": 5, "maximum": 4}, "maximum"),
        ({"maximum": math.nan}, "maximum"),
        ({"multiplier": 0.5}, "multiplier"),
        ({"multiplier": math.inf}, "multiplier"),
        ({"jitter": 1.1}, "jitter"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": True}, "jitter"),
        ({"limit": -1}, "limit"),
        ({"limit": 1.0}, "limit"),
        ({"limit": True}, "limit"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises((InvalidValue, InvalidType), match=name):
        Backoff(**fields)
