"""Requests whose answers come as futures: for callers that have thousands of them on their way, without a task each.

No event loop in here.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from limpet import Ack, DataType, Session
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.driver import BaseDriver
from limpet._clients.instruments import Instruments, ObservedRequest
from limpet._clients.waiters import AsyncWaiter
from limpet_core.nothing import NOTHING

log: logging.Logger = logging.getLogger("limpet")

F_co = TypeVar("F_co", covariant=True)

Request = Callable[..., Any]
"""A method of the session, with all its arguments but ``now`` and ``user_data``."""


class Submit(ABC, Generic[F_co]):
    """Requests that are made at once, each with a future for its answer; ``client.submit`` is one.

    For those who send thousands: no task (or thread) waits for each answer. Requests keep the order of the calls, and
    are repeated and refused as those of the client's own methods; the futures end with the same results and errors.

    The call itself raises :class:`limpet.TooManyRequests` when ``max_pending_requests`` wait already: nothing was sent;
    wait for one of the futures, the oldest for example, and call again. It raises :class:`limpet.ClientStopped` where
    the client is not started. An argument that cannot be used is a :class:`limpet.LocalProtocolError` of the call; with
    the blocking client, of the future.

    The future gives the :class:`limpet.Ack`, or raises :class:`limpet.SendError` or :class:`limpet.SendTimeout`.
    """

    __slots__ = ("_instruments", "_session")

    def __init__(self, session: Session, instruments: Instruments | None) -> None:
        self._session = session
        self._instruments = instruments

    def join_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> F_co:
        """Join ``group``, as the client's ``join_group``, and return a future for the answer."""
        return self._submit(partial(self._session.join_group, group, ack_id=ack_id, timeout=timeout))

    def leave_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> F_co:
        """Leave ``group``, as the client's ``leave_group``, and return a future for the answer."""
        return self._submit(partial(self._session.leave_group, group, ack_id=ack_id, timeout=timeout))

    def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> F_co:
        """Publish to ``group``, as the client's ``send_to_group``, and return a future for the answer."""
        return self._submit(
            partial(
                self._session.send_to_group,
                group,
                data,
                data_type=data_type,
                no_echo=no_echo,
                ack_id=ack_id,
                metadata=metadata,
                ttl=ttl,
                timeout=timeout,
            )
        )

    def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> F_co:
        """Send ``event`` to the application server, as the client's ``send_event``; return a future for the answer."""
        return self._submit(
            partial(
                self._session.send_event,
                event,
                data,
                data_type=data_type,
                ack_id=ack_id,
                metadata=metadata,
                timeout=timeout,
            )
        )

    # ---- Inside

    def _submit(self, request: partial[Any]) -> F_co:
        if self._instruments is None:
            return self._make(request, None)
        observed = self._instruments.request(request)
        try:
            return self._make(observed.call, observed)
        except BaseException as error:
            observed.ended(error)
            raise

    @abstractmethod
    def _make(self, request: Request, observed: ObservedRequest[Any] | None) -> F_co:
        """Make a request; tell ``observed`` of its end."""


class AsyncAnswer(AsyncWaiter[Ack], Protocol):
    """The future of a request, on an event loop.

    Attributes:
        driver: the client's.
        key: the ack id.
        observed: the request for the instrument; None: there is none.
    """

    driver: AsyncDriver[Any]
    key: int
    observed: ObservedRequest[Any] | None


A = TypeVar("A", bound=AsyncAnswer)


class AsyncSubmit(Submit[A]):
    """``client.submit`` of an async client: requests that are made at once, each with a future for its answer.

    The call itself raises what is wrong with it, and the future what comes of it; see :class:`Submit`.
    """

    __slots__ = ("_driver", "_new")

    def __init__(
        self, driver: AsyncDriver[Any], instruments: Instruments | None, new: Callable[[], tuple[A, float]]
    ) -> None:
        super().__init__(driver.session, instruments)
        self._driver = driver
        self._new = new

    def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> A:
        """Publish to ``group``, as the client's ``send_to_group``, and return a future for the answer."""
        if self._instruments is not None or ack_id is not None or timeout is not None:
            return super().send_to_group(
                group,
                data,
                data_type=data_type,
                no_echo=no_echo,
                ack_id=ack_id,
                metadata=metadata,
                ttl=ttl,
                timeout=timeout,
            )
        # What the base does, without its calls.
        answer, now = self._new()
        driver = answer.driver = self._driver  # first: an interrupt behind the request must not break its answer
        answer.key, answer.observed = 0, None
        key = self._session.send_to_group(  # every argument is named: to look a default up takes longer
            group,
            data,
            now,
            data_type=data_type,
            no_echo=no_echo,
            ack=True,
            ack_id=None,
            metadata=metadata,
            ttl=ttl,
            timeout=None,
            user_data=None,
        )
        assert key is not None
        answer.key = key
        if driver.publishes is NOTHING:
            driver.publishes = {}
        driver.publishes[key] = answer
        if not driver.flushing:
            driver.flush()
        return answer

    def _make(self, request: Request, observed: ObservedRequest[Any] | None) -> A:
        driver = self._driver
        answer, _ = self._new()
        now = driver.now()  # exactly: the request may have a timeout
        answer.driver, answer.key, answer.observed = driver, 0, None  # as above; the caller tells of an interrupt
        answer.key = request(now, user_data=answer)
        answer.observed = observed
        driver.expect(answer, answer.key)
        driver.flush()
        return answer


def ended(answer: AsyncAnswer, error: BaseException | None) -> None:
    """Note that the request of ``answer`` has its answer, or an error."""
    driver = answer.driver
    if driver.waiting.pop(answer, None) is None and driver.publishes.get(answer.key) is answer:
        del driver.publishes[answer.key]
    if answer.observed is not None:
        answer.observed.ended(error)


def take_back(answer: AsyncAnswer) -> bool:
    """Take a request back, if that is still possible, whose future was given up; return whether it was."""
    withdraw = answer.driver.session.withdraw
    # A publish with a fresh ack id has no user_data. Another request may have the id by now.
    if withdraw(answer.key, user_data=answer) or withdraw(answer.key, user_data=None):
        answer.driver.flush()  # others may have waited for its end
        return True
    return False


def tell_unseen(driver: BaseDriver[Any], error: BaseException | None) -> None:
    """Log the error of a future that nobody looked at before it was dropped: the first, the tenth, the hundredth ..."""
    driver.unseen += 1
    if str(driver.unseen).strip("0") == "1":
        times = "" if driver.unseen == 1 else f" (number {driver.unseen} of them)"
        log.warning("a request of client.submit has failed, and nobody looked at its future: %s%s", error, times)
