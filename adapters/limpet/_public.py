"""``__module__`` of public classes and functions: the package that users import them from."""

from __future__ import annotations

from inspect import get_annotations
from typing import get_type_hints


def claim(module: str, *objects: object) -> None:
    """Set ``__module__`` of classes and functions to ``module``, for reprs, pickles, tracebacks and docs."""
    for each in objects:
        if isinstance(each, type):  # the names in its annotations can be looked up in its own module only
            own = get_annotations(each)  # from 3.14 on they need not be in vars(each)
            hints = get_type_hints(each, include_extras=True) if own else {}
            each.__annotations__ = {name: hints[name] for name in own}
        each.__module__ = module
