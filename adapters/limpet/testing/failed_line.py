"""The line at which a check failed, and the values in it: for those who run checks without pytest."""

from __future__ import annotations

import ast
import inspect
import linecache
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

LONGEST: Final = 400
"""Characters of a value that are shown."""


def failed_at(error: BaseException, check: Callable[..., Any]) -> list[str]:
    """Return the line of the check at which it failed, and the values in it if it is an ``assert`` without a text."""
    file = getattr(inspect.unwrap(check), "__code__", failed_at.__code__).co_filename
    steps = [step for step in traceback.walk_tb(error.__traceback__) if step[0].f_code.co_filename == file]
    if not steps:
        return []
    frame, line = steps[-1]  # in a helper of the check, if that is in the same file
    statement = _statement(frame.f_code.co_filename, line)
    if statement is None:
        return []
    notes = [f"{Path(frame.f_code.co_filename).name}, line {line}: {ast.unparse(statement).splitlines()[0]}"]
    if isinstance(statement, ast.Assert) and not str(error):
        notes += [f"where {name} is {value}" for name, value in _values(statement.test, frame).items()]
    return notes


def _statement(file: str, line: int) -> ast.stmt | None:
    """Return the innermost statement at a line."""
    tree = ast.parse("".join(linecache.getlines(file)))
    found = [
        node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(found, key=lambda node: (node.lineno, -(node.end_lineno or 0)), default=None)


def _values(test: ast.expr, frame: FrameType) -> dict[str, str]:
    """Return the values of the largest parts of an expression that call nothing."""
    values: dict[str, str] = {}
    parts: list[ast.AST] = [test]
    while parts:
        part = parts.pop(0)
        if isinstance(part, ast.Name | ast.Attribute | ast.Subscript) and not _acts(part):
            text = ast.unparse(part)
            try:
                value: Any = eval(text, frame.f_globals, frame.f_locals)
            except Exception as error:  # noqa: BLE001 - such as an index out of range, which is telling
                values[text] = f"not to be had: {error!r}"
            else:
                if not callable(value):
                    values[text] = short(value)
        elif not isinstance(part, ast.Lambda | ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
            parts += ast.iter_child_nodes(part)
    return values


def _acts(part: ast.AST) -> bool:
    return any(isinstance(node, ast.Call | ast.Await | ast.NamedExpr) for node in ast.walk(part))


def short(value: object) -> str:
    """Return the text of a value, cut to :data:`LONGEST`."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
