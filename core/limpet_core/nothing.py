"""Nothing: in place of a dict that is empty nearly always."""

from __future__ import annotations

from typing import Any, Final


def _refuse(*_: Any, **__: Any) -> Any:
    raise TypeError("bug: NOTHING stays empty: put a dict in its place first")


class _Nothing(dict[Any, Any]):
    """An empty dict that stays empty: to take something out of it does nothing, to put something into it raises."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"NOTHING({dict(self)})"

    __setitem__ = setdefault = update = __ior__ = _refuse


NOTHING: Final[dict[Any, Any]] = _Nothing()
"""An empty dict, which all share; to write into it raises TypeError.

An empty dict takes 64 bytes. A client has dozens of them, and a process may have thousands of clients.
"""
