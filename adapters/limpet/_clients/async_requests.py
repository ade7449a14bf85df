"""The requests of the clients whose methods are async."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, TypeVar, overload

from limpet import Ack, DataType, Reply, SendError
from limpet._clients.async_answers import AsyncAnswers
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.typed import decoder
from limpet._clients.waiters import AsyncWaiter
from limpet_core.nothing import NOTHING

P = TypeVar("P")

D = TypeVar("D", bound=AsyncDriver[Any])


class AsyncRequests(AsyncAnswers[D]):
    """Join, leave, send, invoke, and the requests for the states of groups."""

    async def join_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Join ``group``; after a reconnect the client joins it again by itself.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id.
            timeout: seconds, 0 or more, for all of it, the wait for a connection included; None: ``request_timeout`` of
                the options. A request that could not be sent in that time is taken back, and never sent.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``.
            SendTimeout: the time is over; a SendError and a TimeoutError, with the outcome ``unsent`` or ``unknown``.
            TooManyRequests: ``max_pending_requests`` wait already.
            LocalProtocolError: an argument cannot be used, or the client is not started.
        """
        return await self._ask(partial(self._session.join_group, group, ack_id=ack_id, timeout=timeout))

    async def leave_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        return await self._ask(partial(self._session.leave_group, group, ack_id=ack_id, timeout=timeout))

    @overload
    async def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Literal[True] = True,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> Ack: ...
    @overload
    async def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Literal[False],
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> None: ...
    async def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: bool = True,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> Ack | None:
        """Publish to ``group``, which this client need not have joined.

        Args:
            group: 1 to 1024 characters, not blank.
            data: a str is sent as ``text``, bytes as ``binary``, anything else as ``json``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            no_echo: do not deliver it back to this client.
            ack: wait for the service's answer. False: return None as soon as the message is on its way; errors are
                silent.
            metadata: names and values that members get with the data. A name is an HTTP token of at most 256
                characters, a value has at most 1024 characters of ASCII, all together have at most 8192.
            ttl: seconds, at most 300, in which the service may deliver the message; after that it drops what has not
                been delivered. The wire has whole seconds: fractions are rounded up. None or 0: it never expires.
            ack_id: repeat an earlier request under its ack id.
            timeout: as for :meth:`join_group`. With ``ack=False``: seconds to wait for room to send; None: as long
                as it takes.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if ack and ack_id is None and self._instruments is None:  # the ordinary case: as _answer(), in fewer steps
            driver = self._driver
            waiter: AsyncWaiter[Ack]
            waiter, now = driver.begin_request()
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
                timeout=timeout,
                user_data=None,
            )
            assert key is not None
            if driver.publishes is NOTHING:
                driver.publishes = {}
            driver.publishes[key] = waiter
            if not driver.flushing:
                driver.flush()
            try:
                return await waiter
            except SendError:
                raise  # see _answer()
            except BaseException as error:
                if driver.publishes.pop(key, None) is not None:
                    self._take_back(partial(self._session.withdraw, key, user_data=None), error)
                raise
        request = partial(
            self._session.send_to_group,
            group,
            data,
            data_type=data_type,
            no_echo=no_echo,
            ack=ack,
            ack_id=ack_id,
            metadata=metadata,
            ttl=ttl,
            timeout=timeout if ack else None,
        )
        if ack:
            return await self._ask(request)
        await self._tell(request, timeout, publish=True)
        return None

    @overload
    async def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: Literal[True] = True,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Ack: ...
    @overload
    async def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: Literal[False],
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None: ...
    async def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: bool = True,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Ack | None:
        """Send ``event`` to the application server.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data, data_type, ack, ack_id, metadata, timeout: as for :meth:`send_to_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        request = partial(
            self._session.send_event,
            event,
            data,
            data_type=data_type,
            ack=ack,
            ack_id=ack_id,
            metadata=metadata,
            timeout=timeout if ack else None,
        )
        if ack:
            return await self._ask(request)
        await self._tell(request, timeout, publish=False)
        return None

    @overload
    async def invoke(
        self,
        event: str,
        data: Any = None,
        *,
        data_type: DataType | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        invocation_id: str | None = None,
    ) -> Reply: ...
    @overload
    async def invoke(
        self,
        event: str,
        data: Any = None,
        *,
        data_type: DataType | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        invocation_id: str | None = None,
        type: type[P],
    ) -> Reply[P]: ...
    async def invoke(
        self,
        event: str,
        data: Any = None,
        *,
        data_type: DataType | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        invocation_id: str | None = None,
        type: Any = None,
    ) -> Reply[Any]:
        """Call the event handler for ``event`` at the application server, and wait for its reply.

        The invocation waits while there is no connection. Once it was sent it is never sent again: if the connection
        drops before the reply is here, the outcome is ``unknown``. Cancelled, it asks the service to cancel the call
        of the handler.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data: as for :meth:`send_to_group`; None: no data.
            data_type, metadata: as for :meth:`send_to_group`.
            timeout: seconds, 0 or more, for all of it, the wait for a connection included; None:
                ``request_timeout`` of the options.
            invocation_id: 1 to 128 characters that belong to no pending invocation; by default a fresh id.
            type: the type of the reply's data, as for :meth:`events`.

        Raises:
            InvalidData: the reply does not fit ``type``; the event handler has done its work.
            InvocationError: the service refused, or the outcome is not known; see its ``outcome``.
            InvocationTimeout: the time is over; an InvocationError and a TimeoutError.
            TooManyRequests: ``max_pending_requests`` wait already, requests included.
            LocalProtocolError: an argument cannot be used, or the client is not started.
        """
        request = partial(
            self._session.invoke,
            event,
            data,
            data_type=data_type,
            metadata=metadata,
            timeout=timeout,
            invocation_id=invocation_id,
        )
        decode = decoder(type, None)
        if self._instruments is not None:
            reply = await self._instruments.ask(self._invoke, request)
        else:
            reply = await self._invoke(request)
        return reply if decode is None else decode.take(reply)

    # ---- Group states

    async def set_group_state(self, group: str, state: Mapping[str, str], *, timeout: float | None = None) -> Ack:
        """Set this connection's state in ``group``, which all who watch the states of the group see.

        The service forgets it with :meth:`clear_group_state`, when the client leaves the group, and with the
        connection. After a reconnect the client sets it again by itself, see :class:`limpet.Options`.

        Args:
            group: a group that this client is in.
            state: names and values, all str, of at most 8192 bytes as UTF-8. It replaces the state before as a whole;
                of several calls the last one wins.
            timeout: as for :meth:`join_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        return await self._ask(partial(self._session.set_group_state, group, state, timeout=timeout))

    async def clear_group_state(self, group: str, *, timeout: float | None = None) -> Ack:
        """Clear this connection's state in ``group``. ``timeout`` and errors are those of :meth:`join_group`."""
        return await self._ask(partial(self._session.clear_group_state, group, timeout=timeout))

    async def subscribe_group_states(self, group: str, *, timeout: float | None = None) -> Ack:
        """Ask for the states of all connections in ``group``, and for their changes.

        The service needs membership, or the permission to join. The states come behind the answer, with the first
        :class:`limpet.GroupStatesChanged`; :meth:`group_states` has them from then on. After a recovery or reconnect
        the client subscribes again by itself. See also :meth:`watch_group_states`. ``timeout`` is as for
        :meth:`join_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        return await self._ask(partial(self._session.subscribe_group_states, group, timeout=timeout))

    async def unsubscribe_group_states(self, group: str, *, timeout: float | None = None) -> Ack:
        """End the subscription of the states of ``group``. ``timeout`` and errors are those of :meth:`join_group`."""
        return await self._ask(partial(self._session.unsubscribe_group_states, group, timeout=timeout))
