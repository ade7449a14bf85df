"""Clear errors for `with` where `async with` belongs, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING


class OnlyAsync:
    """Refuses ``with`` and ``for``."""

    if not TYPE_CHECKING:  # type checkers refuse them by themselves

        def __enter__(self):
            raise TypeError("this client is async: use `async with`, not `with`")

        def __exit__(self, *_):
            raise AssertionError("bug: never entered")

        def __iter__(self):
            raise TypeError("this client is async: use `async for`, not `for`")


class OnlyBlocking:
    """Refuses ``async with`` and ``async for``."""

    if not TYPE_CHECKING:

        async def __aenter__(self):
            raise TypeError("this client blocks: use `with`, not `async with`")

        async def __aexit__(self, *_):
            raise AssertionError("bug: never entered")

        def __aiter__(self):
            raise TypeError("this client blocks: use `for`, not `async for`")
