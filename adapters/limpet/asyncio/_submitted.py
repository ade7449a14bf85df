"""The futures of ``client.submit`` on asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from limpet import Ack
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.instruments import ObservedRequest
from limpet._clients.submit import ended, take_back, tell_unseen


class Submitted(asyncio.Future[Ack]):
    """The answer of a request. To cancel it takes the request back, if it was not sent.

    Attributes:
        driver, key, observed: see :class:`limpet._clients.submit.AsyncAnswer`.
    """

    __slots__ = ("driver", "key", "observed")

    driver: AsyncDriver[Any]
    key: int
    observed: ObservedRequest[Any] | None

    def set_exception(self, error: type[BaseException] | BaseException, /) -> None:
        super().set_exception(error)  # first: after an interrupt, the answer is handed on again to those without one
        ended(self, error if isinstance(error, BaseException) else None)
        self.__class__ = Failed  # pyright: ignore[reportAttributeAccessIssue]

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, and take the request back, if it was not sent; False: it has an answer already."""
        if not super().cancel(msg):
            return False
        ended(self, asyncio.CancelledError())
        take_back(self)
        return True


class Observed(Submitted):
    """An answer whose end an instrument is told of."""

    __slots__ = ()

    def set_result(self, ack: Ack, /) -> None:
        ended(self, None)
        super().set_result(ack)


class Failed(Submitted):
    """An answer that is an error. No other one needs a finalizer, which costs as much as all that settles a request."""

    __slots__ = ()

    def __del__(self, over: Callable[[], bool] = sys.is_finalizing) -> None:
        # In place of asyncio's own, which would log each of a thousand futures when a client stops.
        if self._log_traceback and not over():
            tell_unseen(self.driver, self.exception())
