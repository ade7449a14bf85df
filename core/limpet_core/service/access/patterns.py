"""Patterns over group names: ``?``, ``*`` and ``**`` as in `GroupPattern`."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_PATTERN_LENGTH", "MAX_STARS", "GroupPattern", "InvalidPattern"]

MAX_PATTERN_LENGTH: Final = 1024
MAX_STARS: Final = 5
"""``*`` characters in one pattern, each half of ``**`` counted (Azure docs)."""


class InvalidPattern(ValueError):
    """The text is not a pattern; the message says why."""


class GroupPattern:
    """A compiled pattern of group names (Azure docs, wildcard group roles).

    ``?`` stands for one character that is not a dot, ``*`` for any number of characters without a dot,
    ``**`` for any number of characters; ``\\`` takes the meaning from ``\\``, ``*`` and ``?`` and may stand
    before nothing else. A pattern is case-sensitive and describes the whole name.

    Raises `InvalidPattern` if the text is empty, longer than 1024 characters, has more than 5 stars or
    a misplaced backslash.

    ``literal`` is the only name it matches if there is no wildcard in it, else ``None``;
    ``matches_everything`` is true for ``**`` alone.
    """

    # The matcher is a bit-parallel automaton: bit i of the state says "the first i tokens are matched".
    # Patterns come from tokens of strangers, and this one has no bad case: its cost is linear in the name.
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
        self._exact: dict[str, int] = {}  # character -> the tokens that are this character
        self._one = 0  # the tokens "?"
        self._not_dot = 0  # the tokens "*"
        self._any = 0  # the tokens "**"
        self._stars: list[int] = []  # the positions of both, ascending
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
        """Tell whether the whole of ``name`` fits the pattern."""
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
        # A star also stands for nothing; ascending order lets a state skip several in a row.
        for position in self._stars:
            if state >> position & 1:
                state |= 2 << position
        return state
