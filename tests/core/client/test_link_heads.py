"""The head of the service's answer: taken in one piece where it is whole, with the same outcome as byte by byte."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.client.test_link import GREETING, Wire
from tests.helpers import frames
from tests.helpers.driving import encoded, news

MORE = frames.text(encoded(news(1)))
LAST = frames.text(encoded(news(4)))
ANSWERS = [
    "accepted",
    "accepted after another",
    "with line feeds alone",
    "no answer of HTTP",
    "a line that is folded",
    "a line without a colon",
    "refused",
    "refused with a body",
    "refused until the end",
]


def answer(kind: str, handshake: bytes) -> bytes:
    accepted = (
        frames.accept(handshake)
        + GREETING
        + MORE
        + frames.text(encoded(news(2)) + b"\n\r\n")
        + frames.text(encoded(news(3)))
    )
    head, end, rest = accepted.partition(b"\r\n\r\n")
    return {
        "accepted": accepted,
        "accepted after another": b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + accepted,
        "with line feeds alone": head.replace(b"\r\n", b"\n") + b"\n\n" + rest,
        "no answer of HTTP": b"\r\n\r\nGIT\r\n\r\n" + accepted,
        "a line that is folded": head + b"\r\nX: y\r\n z" + end + rest,
        "a line without a colon": head + b"\r\nnothing" + end + rest,
        "refused": b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n" + GREETING,
        "refused with a body": b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nab\n\ncd\n\nxHTTP/1.1 101 Yes\r\n\r\n",
        "refused until the end": b"HTTP/1.1 500 No\r\n\r\nab\n\ncd\r\n\r\n" + b"x\n" * 6000 + b"\n",
    }[kind]


def seen(kind: str, cuts: list[int]) -> list[object]:
    wire = Wire()
    data = answer(kind, wire.handshake)
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    wire.gets(*(data[first:last] for first, last in pairwise(edges)))
    wire.gets(LAST)
    session = wire.session
    return [session.state, repr(session.events()), wire.sent(), wire.link.close_expected, session.deadline]


@cache
def byte_by_byte(kind: str) -> list[object]:
    return seen(kind, list(range(20_000)))


@given(st.sampled_from(ANSWERS), st.lists(st.integers(1, 400), max_size=4))
def test_the_head_in_one_piece_is_the_head_byte_by_byte(kind: str, cuts: list[int]) -> None:
    assert seen(kind, cuts) == byte_by_byte(kind)


@pytest.mark.parametrize("kind", ANSWERS)
def test_the_head_may_be_cut_anywhere(kind: str) -> None:
    assert [cut for cut in range(1, 240) if seen(kind, [cut]) != byte_by_byte(kind)] == []
