"""Text of others in one line of ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_core.redaction import Secrets
from limpet_core.text import (
    LONGEST_ERROR,
    LONGEST_QUOTE,
    LONGEST_REASON,
    error_text,
    escape,
    one_line,
    shorten,
    without_secrets,
)

TOKEN = "Zq9" * 40


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x00\x1b[2J\x7f", "\\u0000\\u001b[2J\\u007f"),
        ("\x85\x9b31m", "\\u0085\\u009b31m"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u061c\u200e\u200f\u202a\u202e\u2066\u2069", "\\u061c\\u200e\\u200f\\u202a\\u202e\\u2066\\u2069"),
        ("\ud83d \udfff", "\\ud83d \\udfff"),
        ("é 👨\u200d👩\u200d👧 ❤\ufe0f \U0001f3f3\ufe0f\u200d🌈 1\ufe0f\u20e3 \\n", None),
        ("a\u0302\u0323 \u0e01\u0e33\u0e49 \u05e9\u05c1\u05b8 שלום", None),
        ("a\u200db \u200d👩 👩\u200d a\ufe0f 1\ufe0f", "a\\u200db \\u200d👩 👩\\u200d a\\ufe0f 1\\ufe0f"),
        ("a\ufe0f\u200d👩", "a\\ufe0f\\u200d👩"),
        ("r\u200bo\u200co\u2060m\ufeff\xad", "r\\u200bo\\u200co\\u2060m\\ufeff\\u00ad"),
        ("\u034f\u115f\u1160\u3164\uffa0\u2800\u180e", "\\u034f\\u115f\\u1160\\u3164\\uffa0\\u2800\\u180e"),
        ("\U000e0041\U000e007f\U000e0100", "\\udb40\\udc41\\udb40\\udc7f\\udb40\\udd00"),
        ("\ufff9a\ufffbb", "\\ufff9a\\ufffbb"),
        ("z" + "\u0301" * 6 + "a", "z" + "\u0301" * 4 + "\\u0301\\u0301a"),
    ],
)
def test_what_a_terminal_or_a_log_obeys_or_hides_is_escaped(text: str, escaped: str | None) -> None:
    if escaped is None:
        escaped = text
    assert escape(text) == escaped
    assert escape(escaped) == escaped
    assert one_line(text) == escaped


@given(st.text(st.characters()), st.integers(40, 500))
def test_a_line_is_one_line_of_bounded_length(text: str, limit: int) -> None:
    shown = one_line(text * 20, limit)
    assert len(shown) <= limit
    assert escape(shown) == shown
    shown.encode()
    assert len(error_text(text * 200)) <= LONGEST_ERROR
    assert len(without_secrets(text * 200)) <= LONGEST_REASON


@pytest.mark.parametrize("limit", range(40, 60))
@pytest.mark.parametrize("text", ["👨\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "1\ufe0f\u20e3", "a\u0301\u0301", "a\u200b"])
def test_a_cut_inside_an_emoji_leaves_nothing_unseen(text: str, limit: int) -> None:
    shown = one_line(text * 100, limit)
    assert escape(shown) == shown
    assert len(shown) <= limit


def test_what_is_cut_tells_how_long_it_was() -> None:
    assert shorten("x" * 100, 100) == "x" * 100
    assert shorten("x" * 101, 100) == "x" * 80 + "... (101 characters)"
    assert shorten("x" * 101, 3) == "... (101 characters)"
    # Twice cut, it still tells the first length.
    assert shorten(shorten("x" * 5000, 1000), 100).endswith("x... (5000 characters)")
    assert one_line(without_secrets("x" * 5000)).endswith("x... (5000 characters)")
    # A text that only its escapes make too long.
    assert one_line("\x00" * 100) == ("\\u0000" * 50)[: LONGEST_QUOTE - 20] + "... (100 characters)"
    assert error_text("x" * LONGEST_ERROR) == "x" * LONGEST_ERROR
    assert error_text("x" * (LONGEST_ERROR + 1)).endswith("... (2001 characters)")
    assert error_text("\n" * LONGEST_ERROR).endswith("... (4000 characters)")


@pytest.mark.parametrize("length", [8191, 8192, 8193, 2_000_000])
def test_megabytes_are_cut_before_they_are_searched(length: int) -> None:
    assert one_line("x" * length).endswith(f"x... ({length} characters)")
    # All but the end is one secret after the other: nothing near the cut is shown.
    hidden = one_line("Bearer " + "y" * 7000 + " " + "z" * length, 5000)
    assert hidden == f"Bearer *** {'z' * 160}... ({length + 7008} characters)"


@pytest.mark.parametrize("size", [*range(6, 16), 40, 119])
def test_the_beginning_of_a_known_secret_is_hidden_where_somebody_has_cut_it(size: int) -> None:
    secrets = Secrets(TOKEN)
    assert one_line(f"for {TOKEN[:size]}", secrets=secrets) == "for ***"
    assert one_line(f"for {TOKEN[:size]}... (2000 characters)", secrets=secrets) == "for ***... (2000 characters)"
    assert one_line(f"for {TOKEN[:size]}... (2000 characters) (close code 1000)", secrets=secrets).startswith(
        "for ***..."
    )


@pytest.mark.parametrize("before", range(150, 300, 7))
def test_a_secret_at_the_cut_is_not_shown_by_half(before: int) -> None:
    assert "Zq9" not in one_line("x" * before + " " + TOKEN, secrets=Secrets(TOKEN))
    assert "Zq9" not in one_line("x" * before + " access_token=" + TOKEN)
    assert "Zq9" not in one_line("x" * before + json.dumps({"reconnectionToken": TOKEN}))
