"""Patterns of group names, with the wildcards ``?``, ``*`` and ``**``."""

from __future__ import annotations

from typing import Final

MAX_PATTERN_LENGTH: Final = 1024
MAX_STARS: Final = 5
"""The maximum number of ``*`` characters in a pattern; ``**`` counts as two (Azure docs)."""


class InvalidPattern(ValueError):
    """A text is not a pattern; the message says why."""


class GroupPattern:
    """A compiled pattern of group names (Azure docs, wildcard group roles).

    ``?`` stands for one character that is not a dot, ``*`` for any number of characters without a dot, ``**`` for any
    number of characters. ``\\`` makes a following ``\\``, ``*`` or ``?`` literal and is allowed nowhere else. A
    pattern is case-sensitive and describes the whole name.

    Attributes:
        text: the pattern.
        literal: the only name that matches, if the pattern has no wildcard; else ``None``.
        matches_everything: whether the pattern is ``**``.

    Raises:
        InvalidPattern: for an empty text, more than 1024 characters, more than 5 stars, or a misplaced backslash.
    """

    # The matcher is a bit-parallel automaton: bit i of the state says "the first i tokens are matched". Patterns come
    # from untrusted tokens, so the cost must be linear in the name in all cases.
    __slots__ = (
        "_any",
        "_count",
        "_exact",
        "_not_dot",
        "_one",
        "_stars",
        "literal",
        "matches_everything",
        "text",
    )

    def __init__(self, text: str) -> None:
        if not 1 <= len(text) <= MAX_PATTERN_LENGTH:
            raise InvalidPattern(f"a pattern has 1 to {MAX_PATTERN_LENGTH} characters")
        self.text: str = text
        self._exact: dict[str, int] = {}  # character -> the positions of this character, as bits
        self._one = 0  # the positions of "?"
        self._not_dot = 0  # the positions of "*"
        self._any = 0  # the positions of "**"
        self._stars: list[int] = []  # the positions of "*" and "**", ascending
        characters: list[str] = []
        stars = 0
        position = 0
        index = 0
        while index < len(text):
            character = text[index]
            bit = 1 << position
            if character == "\\":
                index += 1
                character = text[index : index + 1]
                if character not in ("\\", "*", "?"):
                    raise InvalidPattern("a backslash stands only before a backslash, a star or a question mark")
                self._exact[character] = self._exact.get(character, 0) | bit
                characters.append(character)
            elif character == "*":
                self._stars.append(position)
                if text[index + 1 : index + 2] == "*":
                    self._any |= bit
                    stars += 2
                    index += 1
                else:
                    self._not_dot |= bit
                    stars += 1
            elif character == "?":
                self._one |= bit
            else:
                self._exact[character] = self._exact.get(character, 0) | bit
                characters.append(character)
            position += 1
            index += 1
        if stars > MAX_STARS:
            raise InvalidPattern(f"a pattern has at most {MAX_STARS} stars")
        self._count = position
        self.literal: str | None = "".join(characters) if len(characters) == position else None
        self.matches_everything: bool = text == "**"

    def matches(self, name: str) -> bool:
        """Return whether the whole ``name`` matches the pattern."""
        state = self._skip_stars(1)
        for character in name:
            step = self._exact.get(character, 0)
            stay = self._any
            if character != ".":
                step |= self._one
                stay |= self._not_dot
            state = ((state & step) << 1) | (state & stay)
            if not state:
                return False
            state = self._skip_stars(state)
        return bool(state >> self._count & 1)

    def _skip_stars(self, state: int) -> int:
        # A star also matches the empty string; ascending order lets a state skip several stars in a row.
        for position in self._stars:
            if state >> position & 1:
                state |= 2 << position
        return state
