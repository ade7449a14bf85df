"""OData filters of connections, such as ``'group1' in groups and userId ne null`` (Azure docs)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final, NoReturn, TypeVar

from limpet_core.service.odata.expressions import (
    COMPARISONS,
    IDENTIFIERS,
    Candidate,
    Expression,
    InvalidFilter,
    call,
    combine,
    compare,
    is_in,
    literal,
    negate,
)

C = TypeVar("C", bound=Candidate)

MAX_CLAUSES: Final = 100
"""The maximum number of conditions in a filter; the service may refuse more (Azure docs)."""

_MAX_DEPTH: Final = 32
_MAX_INTEGER: Final = 2**63 - 1

_TOKEN = re.compile(
    r"""\s*(?: (?P<string>'[^']*(?:''[^']*)*')
             | (?P<integer>[+-]?[0-9]{1,19}(?!\w))
             | (?P<name>[^\W\d]\w*)
             | (?P<mark>[(),]) )""",
    re.VERBOSE,
)
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


class Filter:
    """A condition on connections.

    The properties are ``userId`` (text or null), ``connectionId``, ``protocol`` (text or null) and ``groups``. The
    operators are, in the order of precedence, ``not``, ``eq ne gt ge lt le in``, ``and``, ``or``, with parentheses. The
    functions are ``tolower toupper trim substring concat contains startswith endswith indexof length``. Names and
    operators are case-insensitive. ``in`` takes a list of constants or ``groups``.

    Raises:
        InvalidFilter: for a text that is not such a condition, or has more than 100 parts joined by ``and`` and ``or``.
    """

    __slots__ = ("_condition", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        self._condition = _Parser(text).parse()

    def matches(self, candidate: Candidate) -> bool:
        """Return whether a connection meets the condition; null counts as false (OData)."""
        return self._condition.evaluate(candidate) is True


def select(candidates: Iterable[C], where: Filter | None = None, excluded: Collection[str] = ()) -> list[C]:
    """Return the candidates that match a filter and whose connection ids are not excluded."""
    return [
        candidate
        for candidate in candidates
        if candidate.connection_id not in excluded and (where is None or where.matches(candidate))
    ]


class _Parser:
    """A recursive descent parser, with a method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0  # of the current token
        self._end = 0  # of the current token, exclusive
        self._kind = ""  # "string", "integer", "name", "mark", or "end"
        self._token = ""
        self._depth = 0
        self._clauses = 1
        self._advance()

    def parse(self) -> Expression:
        condition = self._condition()
        if self._kind != "end":
            self._fail("an operator or the end")
        if condition.kind != "boolean":
            raise InvalidFilter(f"a filter is a condition, and this is {condition.kind}")
        return condition

    def _condition(self) -> Expression:
        operands = [self._conjunction()]
        while self._take_word("or"):
            operands.append(self._clause(self._conjunction))
        return operands[0] if len(operands) == 1 else combine("or", operands)

    def _conjunction(self) -> Expression:
        operands = [self._comparison()]
        while self._take_word("and"):
            operands.append(self._clause(self._comparison))
        return operands[0] if len(operands) == 1 else combine("and", operands)

    def _clause(self, parse: Callable[[], Expression]) -> Expression:
        self._clauses += 1
        if self._clauses > MAX_CLAUSES:
            raise InvalidFilter(f"a filter has at most {MAX_CLAUSES} conditions")
        return parse()

    def _comparison(self) -> Expression:
        left = self._unary()
        word = self._word()
        if word == "in":
            self._advance()
            return is_in(left, self._list() if self._token == "(" else self._unary())
        if word in COMPARISONS:
            self._advance()
            return compare(word, left, self._unary())
        return left

    def _unary(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidFilter("the filter is nested too deeply")
        negated = self._take_word("not")
        operand = negate(self._unary()) if negated else self._primary()
        self._depth -= 1
        return operand

    def _primary(self) -> Expression:
        if self._take_mark("("):
            inner = self._condition()
            self._expect_mark(")")
            return inner
        if self._kind != "name" or self._word() in _CONSTANTS:
            return literal(self._constant())
        name = self._token
        self._advance()
        if self._take_mark("("):
            arguments: list[Expression] = []
            while not self._take_mark(")"):
                if arguments:
                    self._expect_mark(",")
                arguments.append(self._condition())
            return call(name, arguments)
        identifier = IDENTIFIERS.get(name.lower())
        if identifier is None:
            raise InvalidFilter(f"there is no '{name}'; a filter knows userId, connectionId, groups and protocol")
        return identifier

    def _list(self) -> list[str | int | bool | None]:
        self._expect_mark("(")
        values = [self._constant()]
        while not self._take_mark(")"):
            self._expect_mark(",")
            values.append(self._constant())
        return values

    def _constant(self) -> str | int | bool | None:
        value: str | int | bool | None
        if self._kind == "string":
            value = self._token[1:-1].replace("''", "'")
        elif self._kind == "integer":
            value = int(self._token)
            if abs(value) > _MAX_INTEGER:
                raise InvalidFilter(f"{self._token} does not fit in 64 bits")
        elif self._word() in _CONSTANTS:
            value = _CONSTANTS[self._word()]
        else:
            self._fail("a value")
        self._advance()
        return value

    # ---- Tokens

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._end)
        if match is not None:
            self._kind = match.lastgroup or ""
            self._token = match.group(self._kind)
            self._position, self._end = match.span(self._kind)
            return
        rest = self._text[self._end :].lstrip()
        self._kind, self._token, self._position = "end", "", len(self._text) - len(rest)
        if rest:
            self._fail("a name, a value, an operator or a parenthesis")

    def _word(self) -> str:
        return self._token.lower() if self._kind == "name" else ""

    def _take_word(self, word: str) -> bool:
        if self._word() != word:
            return False
        self._advance()
        return True

    def _take_mark(self, mark: str) -> bool:
        if self._kind != "mark" or self._token != mark:
            return False
        self._advance()
        return True

    def _expect_mark(self, mark: str) -> None:
        if not self._take_mark(mark):
            self._fail(f"'{mark}'")

    def _fail(self, expected: str) -> NoReturn:
        raise InvalidFilter(f"the filter has a fault at character {self._position + 1}: expected {expected}")
