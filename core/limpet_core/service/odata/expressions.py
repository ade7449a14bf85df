"""Expressions of OData filters: typed values of a connection, operators and functions.

Types are checked when an expression is built, so that its evaluation never fails.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias


class InvalidFilter(ValueError):
    """A text is not a filter; the message says why."""


class Candidate(Protocol):
    """An object that a filter is applied to, such as a :class:`Connection`."""

    @property
    def connection_id(self) -> str:
        """The id of the connection."""
        ...

    @property
    def user_id(self) -> str | None:
        """The user of the connection; ``None``: anonymous."""
        ...

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol, if any."""
        ...

    @property
    def groups(self) -> Collection[str]:
        """The groups that the connection is in."""
        ...


Kind: TypeAlias = Literal["string", "integer", "boolean", "null", "groups"]

# A value has the type of its kind, or is None for null; a function of null returns null (OData).
_Evaluate: TypeAlias = Callable[[Candidate], Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """A part of a filter: the kind of its value, and the function that computes the value for a connection."""

    kind: Kind
    evaluate: _Evaluate


IDENTIFIERS: Final = {
    "userid": Expression("string", lambda candidate: candidate.user_id),
    "connectionid": Expression("string", lambda candidate: candidate.connection_id),
    "protocol": Expression("string", lambda candidate: candidate.subprotocol),
    "groups": Expression("groups", lambda candidate: candidate.groups),
}
"""The properties of a connection, by name in lower case; names are case-insensitive (Azure docs, emulator)."""

COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


def literal(value: str | int | bool | None) -> Expression:
    """Return a constant."""
    kind: Kind = "null"
    if isinstance(value, str):
        kind = "string"
    elif value is not None:
        kind = "boolean" if isinstance(value, bool) else "integer"
    return Expression(kind, lambda _: value)


def compare(name: str, left: Expression, right: Expression) -> Expression:
    """Return the comparison of two values of one kind, or of a value with null, by an operator of ``COMPARISONS``.

    Null equals only null, and is neither greater nor less than any value (OData). Text is compared by code points.
    """
    kinds = {left.kind, right.kind} - {"null"}
    if len(kinds) > 1 or "groups" in kinds:
        raise InvalidFilter(f"'{name}' cannot compare {left.kind} and {right.kind}")
    operation = COMPARISONS[name]
    if name in ("eq", "ne"):
        return _boolean(lambda candidate: operation(left.evaluate(candidate), right.evaluate(candidate)))
    if "boolean" in kinds:
        raise InvalidFilter(f"'{name}' cannot order booleans")
    return _boolean(_of_known(operation, (left, right)))


def is_in(left: Expression, right: Expression | Sequence[str | int | bool | None]) -> Expression:
    """Return the test whether a value is in a list of constants, or a text is one of the groups."""
    if isinstance(right, Expression):
        if left.kind != "string" or right.kind != "groups":
            raise InvalidFilter("'in' needs a list on its right, or text on its left and groups on its right")
        return _boolean(lambda candidate: left.evaluate(candidate) in right.evaluate(candidate))
    kinds = {left.kind, *(literal(value).kind for value in right)} - {"null"}
    if len(kinds) > 1 or "groups" in kinds:
        raise InvalidFilter(f"the list after 'in' has other values than {left.kind}")
    values = frozenset(right)
    return _boolean(lambda candidate: left.evaluate(candidate) in values)


def negate(operand: Expression) -> Expression:
    """Return the negation of a condition; null stays null (OData)."""
    _check_boolean("not", operand)
    return _boolean(_of_known(operator.not_, (operand,)))


def combine(name: Literal["and", "or"], operands: Sequence[Expression]) -> Expression:
    """Return the combination of conditions by ``and`` or ``or``; null means "unknown" (OData)."""
    for operand in operands:
        _check_boolean(name, operand)
    decisive = name == "or"
    parts = tuple(operand.evaluate for operand in operands)

    def evaluate(candidate: Candidate) -> bool | None:
        outcome: bool | None = not decisive
        for part in parts:
            value: bool | None = part(candidate)
            if value is decisive:
                return decisive
            if value is None:
                outcome = None
        return outcome

    return _boolean(evaluate)


def call(name: str, arguments: Sequence[Expression]) -> Expression:
    """Return the call of a function of ``FUNCTIONS``; a function of null returns null (OData)."""
    overloads = FUNCTIONS.get(name.lower())
    if overloads is None:
        raise InvalidFilter(f"there is no function '{name}'")
    kinds = [argument.kind for argument in arguments]
    for parameters, result, function in overloads:
        if len(parameters) == len(kinds) and all(
            kind == expected or (kind == "null" and expected != "groups")
            for kind, expected in zip(kinds, parameters, strict=True)
        ):
            return Expression(result, _of_known(function, arguments))
    usage = " or ".join(f"{name}({', '.join(parameters)})" for parameters, _, _ in overloads)
    raise InvalidFilter(f"'{name}' cannot take ({', '.join(kinds)}); it is used as {usage}")


def _substring(text: str, start: int, length: int | None = None) -> str:
    start = max(start, 0)
    return text[start:] if length is None else text[start : start + max(length, 0)]


_Overload: TypeAlias = tuple[tuple[Kind, ...], Kind, Callable[..., Any]]

FUNCTIONS: Final[dict[str, list[_Overload]]] = {
    "tolower": [(("string",), "string", str.lower)],
    "toupper": [(("string",), "string", str.upper)],
    "trim": [(("string",), "string", str.strip)],
    "substring": [
        (("string", "integer"), "string", _substring),
        (("string", "integer", "integer"), "string", _substring),
    ],
    "concat": [(("string", "string"), "string", operator.add)],
    "contains": [(("string", "string"), "boolean", operator.contains)],
    "startswith": [(("string", "string"), "boolean", str.startswith)],
    "endswith": [(("string", "string"), "boolean", str.endswith)],
    "indexof": [(("string", "string"), "integer", str.find)],
    "length": [(("string",), "integer", len), (("groups",), "integer", len)],
}
"""By name in lower case: the kinds of the arguments, the kind of the result, the function (Azure docs).

Indexes count from 0.
"""


def _boolean(evaluate: _Evaluate) -> Expression:
    return Expression("boolean", evaluate)


def _check_boolean(name: str, operand: Expression) -> None:
    if operand.kind not in ("boolean", "null"):
        raise InvalidFilter(f"'{name}' needs a condition, not {operand.kind}; parentheses may be missing")


def _of_known(function: Callable[..., Any], arguments: Sequence[Expression]) -> _Evaluate:
    parts = tuple(argument.evaluate for argument in arguments)

    def evaluate(candidate: Candidate) -> Any:
        values = [part(candidate) for part in parts]
        return None if None in values else function(*values)

    return evaluate
