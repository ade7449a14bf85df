"""The operations of application servers at a node of a cluster, until the log says what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from limpet_core.service.cluster.commands import MAX_DATA
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.waiting import Asked
from limpet_core.service.data_plane.parameters import OperationError, bad_request
from limpet_core.service.data_plane.writes import Send, Write

_PATIENCE: Final = 30.0
"""Seconds that a request of an application server waits for the log."""


class WaitingWrites:
    """Has operations carried out by the cluster, and keeps those that wait.

    Args:
        replica: the node's part of the cluster.
        flush: carries out the outputs of the replica.
    """

    def __init__(self, replica: Replica, flush: Callable[[], None]) -> None:
        self._replica = replica
        self._flush = flush
        self._waiting: dict[Asked, asyncio.Future[None]] = {}

    async def carry_out(self, write: Write) -> None:
        """Write an operation into the log, and wait until it was carried out.

        Raises:
            OperationError: it was refused, or nobody knows yet.
        """
        if isinstance(write, Send) and len(write.message.data) + len(write.message.metadata) > MAX_DATA:
            # A text whose characters are all escaped in JSON, which the size of the body allows. All other operations
            # are smaller: a body has 1 MiB at most.
            raise bad_request(f"The message is too large: as JSON it may have {MAX_DATA} bytes in a cluster.")
        asked = self._replica.ask(write)
        waiting = self._waiting[asked] = asyncio.get_running_loop().create_future()
        self._flush()
        try:
            async with patience():
                await waiting
        except TimeoutError:
            raise unavailable("It may be carried out later.") from None
        finally:
            del self._waiting[asked]

    def answer(self, answers: Iterable[Asked]) -> None:
        """Tell those who wait that their operations were carried out, or refused."""
        for asked in answers:
            waiting = self._waiting.get(asked)
            if waiting is not None and not waiting.done():
                waiting.set_result(None) if asked.error is None else waiting.set_exception(asked.error)

    def refuse(self) -> None:
        """Refuse all that wait, which do not come back: the log goes on without this node."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(unavailable())


def patience() -> asyncio.Timeout:
    """Return the limit of time, for ``async with``, for which a request waits for the log."""
    return asyncio.timeout(_PATIENCE)


def unavailable(hint: str = "Try again, perhaps at another node.") -> OperationError:
    """Return the error of a request that needs the log, which this node does not reach."""
    message = f"This node of the service does not reach the log of its cluster. {hint}"
    return OperationError(503, "Error.ServiceUnavailable", message)
