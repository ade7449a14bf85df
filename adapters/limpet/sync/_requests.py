"""The requests of the blocking client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, TypeVar, cast, overload

from limpet import Ack, DataType, Reply
from limpet._clients.base import BaseClient
from limpet._clients.submit import Submit
from limpet._clients.typed import decoder
from limpet.sync._portal import Portal
from limpet.sync._submitted import BlockingSubmit
from limpet.sync.driver import Driver

P = TypeVar("P")


class Requests(BaseClient[Driver]):
    """Join, leave, send, invoke, and the requests for the states of groups."""

    _portal: Portal

    # ---- Requests

    @property
    def submit(self) -> Submit[Future[Ack]]:
        """Requests that are made at once, each with a ``concurrent.futures.Future`` for its answer: for thousands.

        ``future = client.submit.send_to_group("group1", "hello")``, and later ``ack = future.result()``. No thread
        waits for each answer, which makes it the fastest way to send much. See :class:`Submit`.

        The call itself raises only :class:`limpet.TooManyRequests`, :class:`limpet.ClientStopped`, and
        LocalProtocolError in a forked child; all else, an argument that cannot be used included, comes out of the
        future. Callbacks of the future are called in the client's thread for callbacks, which also tells
        ``concurrent.futures.wait()`` and ``as_completed()``: in a callback they would wait for ever, and
        ``future.result()`` does not. To cancel a future takes its
        request back, if it was not sent; a request that was sent goes on. An error that nobody looks at is logged: the
        first one, the tenth, the hundredth.
        """
        return BlockingSubmit(self._driver, self._portal, self._instruments)

    def join_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
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
            LocalProtocolError: an argument cannot be used, the client is not started, or this is a forked child of the
                process that started it.
        """
        return self._ask(partial(self._session.join_group, group, ack_id=ack_id), timeout)

    def leave_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        return self._ask(partial(self._session.leave_group, group, ack_id=ack_id), timeout)

    @overload
    def send_to_group(
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
    def send_to_group(
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
    def send_to_group(
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
            ack: wait for the service's answer. False: return None as soon as the message is on its way, or at most 64
                others are before it; errors are silent.
            metadata: names and values that members get with the data. A name is an HTTP token of at most 256
                characters, a value has at most 1024 characters of ASCII, all together have at most 8192.
            ttl: seconds, at most 300, in which the service may deliver the message; after that it drops what has not
                been delivered. The wire has whole seconds: fractions are rounded up. None or 0: it never expires.
            ack_id, timeout: as for :meth:`join_group`. With ``ack=False``: seconds to wait for room to send; None: as
                long as it takes.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if not ack and ack_id is None and self._instruments is None:
            message = self._session.prepare_send(
                group, data, data_type=data_type, no_echo=no_echo, metadata=metadata, ttl=ttl
            )
            if self._portal.send_prepared(message, timeout, publish=True):
                return None
        request = partial(
            self._session.send_to_group,
            group,
            data,
            data_type=data_type,
            no_echo=no_echo,
            ack_id=ack_id,
            metadata=metadata,
            ttl=ttl,
        )
        if ack:
            return self._ask(request, timeout)
        self._portal.send(request, timeout, publish=True)
        return None

    @overload
    def send_event(
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
    def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: Literal[False],
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None: ...
    def send_event(
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
        if not ack and ack_id is None and self._instruments is None:
            message = self._session.prepare_event(event, data, data_type=data_type, metadata=metadata)
            if self._portal.send_prepared(message, timeout, publish=False):
                return None
        request = partial(self._session.send_event, event, data, data_type=data_type, ack_id=ack_id, metadata=metadata)
        if ack:
            return self._ask(request, timeout)
        self._portal.send(request, timeout, publish=False)
        return None

    @overload
    def invoke(
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
    def invoke(
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
    def invoke(
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
        drops before the reply is here, the outcome is ``unknown``. Interrupted by Ctrl-C, or out of time, it asks the
        service to cancel the call of the handler.

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
            LocalProtocolError: an argument cannot be used, the client is not started, or this is a forked child of the
                process that started it.
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
        reply: Reply[Any] = self._portal.request(request)
        return reply if decode is None else decode.take(reply)

    # ---- Group states

    def set_group_state(self, group: str, state: Mapping[str, str], *, timeout: float | None = None) -> Ack:
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
        return self._ask(partial(self._session.set_group_state, group, state), timeout)

    def clear_group_state(self, group: str, *, timeout: float | None = None) -> Ack:
        """Clear this connection's state in ``group``. ``timeout`` and errors are those of :meth:`join_group`."""
        return self._ask(partial(self._session.clear_group_state, group), timeout)

    def subscribe_group_states(self, group: str, *, timeout: float | None = None) -> Ack:
        """Ask for the states of all connections in ``group``, and for their changes.

        The service needs membership, or the permission to join. The states come behind the answer, with the first
        :class:`limpet.GroupStatesChanged`; :meth:`group_states` has them from then on. After a recovery or reconnect
        the client subscribes again by itself. See also :meth:`watch_group_states`. ``timeout`` is as for
        :meth:`join_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        return self._ask(partial(self._session.subscribe_group_states, group), timeout)

    def unsubscribe_group_states(self, group: str, *, timeout: float | None = None) -> Ack:
        """End the subscription of the states of ``group``. ``timeout`` and errors are those of :meth:`join_group`."""
        return self._ask(partial(self._session.unsubscribe_group_states, group), timeout)

    # ---- Inside

    def _ask(self, request: Callable[..., int | None], timeout: float | None) -> Ack:
        return cast(Ack, self._portal.request(partial(request, timeout=timeout)))
