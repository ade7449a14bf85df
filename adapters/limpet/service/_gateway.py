"""The gateway between WebSockets and the service's logic: admission, output, event handlers, and the one timer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from secrets import token_urlsafe
from time import monotonic, time
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from limpet.service._admission import (
    Admission,
    Decision,
    Entrance,
    Handshake,
    Pending,
    Refusal,
)
from limpet.service._entrances import AtOnce
from limpet.service._frame_log import FrameLog, frame_log
from limpet.service._gathering import Gathering
from limpet.service._identity import Identity
from limpet.service._memory import Memory
from limpet.service.options import ServiceOptions
from limpet_core.service import (
    NO_CLOSE_FRAME,
    EventSettings,
    PendingConnect,
    ServiceCore,
    Transport,
    index_by_hub,
)
from limpet_core.service.data_plane.writes import Write
from limpet_core.text import one_line

if TYPE_CHECKING:
    from limpet.service._event_hubs import EventHubs
    from limpet.service._webhooks import Called, WebhookClient
    from limpet.service.cluster.view import ClusterView

RELOADED: Final = ("anonymous", "hubs", "negotiate", "max_connections")
"""The options that may change while the service runs; the others are part of what it has given out already."""

# Versions of the data plane that the log names.
_MAX_NOTED = 20

_LOGGER = logging.getLogger("limpet.service")


class Writer(Protocol):
    """Writes the service's output for one client."""

    def flush(self) -> None:
        """Send the messages of the transport, then carry out its order to close; must not raise or block."""
        ...


Respond: TypeAlias = Callable[[Admission | Refusal], None]
"""Answers a handshake; must not raise or block."""


class Gateway:
    """The service's logic with a clock, tokens, the writers of its clients, and HTTP calls to event handlers.

    Belongs to one event loop at a time.

    Args:
        options: of the service.
        endpoint: the configured URL of the service, if any.

    Raises:
        ValueError: if ``endpoint`` is not a URL of a service.

    Attributes:
        options: of the service.
        identity: access keys, tokens and URLs.
        core: the service's logic.
        now: returns the present time of the service's logic: monotonic seconds, or in a cluster those of its log.
        memory: the newest events, for the trace page; ``None``: nobody may see that.
        webhooks: makes the calls to event handlers; ``None`` without event handlers.
        event_hubs: sends what event listeners get; ``None`` without event listeners.
        frame_log: the log of all messages; ``None``: it is not written.
        gathering: counts the messages of clients that :meth:`flush_soon` is called for.
    """

    congested: bool = False
    """Whether no more messages of clients should be taken at the moment: see :meth:`when_free`."""

    def __init__(self, options: ServiceOptions, endpoint: str | None) -> None:
        self.options: ServiceOptions = options
        self.frame_log: FrameLog | None = frame_log()
        self.identity: Identity = Identity(options, endpoint)
        events = EventSettings(
            access_keys=self.identity.access_keys,
            utc_time=lambda: utc_time(time()),
            origin="" if endpoint is None else _host_of(endpoint),
        )
        self.core: ServiceCore = self._make_core(options, events)
        self.now: Callable[[], float] = monotonic
        self._entrance: Entrance = AtOnce(self.core, lambda: self.options.max_connections)
        self.memory: Memory | None = None if options.trace is False else Memory(self.core)
        self._call_observer: Callable[[str, float], None] | None = None
        self.webhooks: WebhookClient | None = None
        self.event_hubs: EventHubs | None = None
        self._set_handlers(options)
        if options.unvalidated_entra_tokens:
            _LOGGER.warning(
                "tokens of Microsoft Entra are accepted without validation: every program on this machine may use the "
                "REST API"
            )
        self._noted_versions: set[str] = set()
        self._undecided: dict[Pending, Respond] = {}
        self._writers: dict[Transport, Writer] = {}
        self._when_free: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline = math.inf
        self.gathering: Gathering = Gathering(options.limits(), self._end_turn)

    def _make_core(self, options: ServiceOptions, events: EventSettings) -> ServiceCore:
        return ServiceCore(
            options.limits(),
            new_connection_id=lambda: token_urlsafe(18),
            issue_reconnection_token=self.identity.tokens.issue_reconnection_token,
            check_reconnection_token=self.identity.tokens.check_reconnection_token,
            events=events,
            unix_time=time,
        )

    @property
    def inspected_core(self) -> ServiceCore:
        """The service's logic for the application: to change, too, where the service is alone."""
        return self.core

    def cluster_view(self) -> ClusterView | None:
        """Return what this node knows of its cluster; ``None``: the service is alone."""
        return None

    async def open(self) -> None:
        """Prepare for the first client; call before the service listens."""

    def listens_on(self, endpoint: str) -> None:
        """Set the URL at which the service itself listens, which it does from now on."""
        if self.memory is not None:
            self.memory.begin()
        self.identity.own_endpoint = endpoint
        if self.identity.endpoint is None:
            self.core.events.origin = _host_of(endpoint)

    def reload(self, options: ServiceOptions) -> tuple[str, ...]:
        """Take the options that may change while the service runs; return the names of the others that differ."""
        changed = self._changed(options)
        # The first event listeners need a package that may be missing: nothing has changed then.
        self._make_senders(options)
        taken = {name: getattr(options, name) for name in changed if name in RELOADED}
        self.options = dataclasses.replace(self.options, **taken)
        if "hubs" in taken:
            self._set_handlers(self.options)
            self.flush()
        return tuple(name for name in changed if name not in RELOADED)

    def _changed(self, options: ServiceOptions) -> tuple[str, ...]:
        """Return the names of the options that differ from those in use."""
        names = (field.name for field in dataclasses.fields(options))
        return tuple(name for name in names if getattr(options, name) != getattr(self.options, name))

    def observe_calls(self, observer: Callable[[str, float], None]) -> None:
        """Have ``observer`` called with the outcome and the seconds of each request to an event handler."""
        self._call_observer = observer
        if self.webhooks is not None:
            self.webhooks.observer = observer

    def _make_senders(self, options: ServiceOptions) -> None:
        # Only when they are needed, since the libraries take long to import.
        if self.webhooks is None and any(special.event_handlers for special in options.hubs.values()):
            from limpet.service._webhooks import WebhookClient

            self.webhooks = WebhookClient(self._called, self.flush)
            self.webhooks.observer = self._call_observer
        if self.event_hubs is None and any(special.event_listeners for special in options.hubs.values()):
            from limpet.service._event_hubs import EventHubs

            self.event_hubs = EventHubs()

    def _set_handlers(self, options: ServiceOptions) -> None:
        self._make_senders(options)
        handlers = index_by_hub({hub: special.event_handlers for hub, special in options.hubs.items()})
        listeners = index_by_hub({hub: special.event_listeners for hub, special in options.hubs.items()})
        self.core.set_handlers(handlers, listeners)
        if self.event_hubs is not None:
            self.event_hubs.keep(listener for listed in listeners.values() for listener in listed)

    def note_api_version(self, asked: str | None, followed: str) -> None:
        """Log that a preview of the data plane is answered like another version, once for each preview."""
        if asked is None or asked == followed or asked.lower() in self._noted_versions:
            return
        if len(self._noted_versions) < _MAX_NOTED:
            self._noted_versions.add(asked.lower())
            _LOGGER.warning("requests of the API version %s are answered like those of %s", asked.lower(), followed)

    @property
    def _called(self) -> Called:
        """The object that the ends of calls to event handlers are told to."""
        return self.core

    # ---- Admission

    def admit(self, handshake: Handshake, respond: Respond) -> Pending | None:
        """Decide about a client, before its WebSocket is open (emulator).

        Usually calls ``respond`` at once and returns ``None``. If an event handler decides, or the other nodes of a
        cluster have to know first, returns what is pending and calls ``respond`` later; call :meth:`forget` if the
        client leaves before.
        """
        outcome = Decision(self._entrance, self.identity, self.options, handshake).decide()
        if isinstance(outcome, Admission | Refusal):
            self._respond(handshake.hub, outcome, respond)
            return None
        self._undecided[outcome] = respond
        self.flush()
        return outcome if outcome in self._undecided else None  # answered meanwhile, such as a refused recovery

    def forget(self, pending: Pending) -> None:
        """Handle that a client has left before its WebSocket was open."""
        assert isinstance(pending, PendingConnect)
        if self._undecided.pop(pending, None) is not None:
            self.core.forget_connect(pending)
        elif pending.transport is not None:
            self.core.disconnected(pending.transport, NO_CLOSE_FRAME, monotonic())
        self.flush()

    def _answer(self, pending: Pending, subprotocol: str | None) -> None:
        """Answer a client that has waited, unless it has left: with this subprotocol if it is let in."""
        respond = self._undecided.pop(pending, None)
        if respond is None:
            return
        if pending.rejection is not None:
            self._respond(pending.hub, Refusal(pending.rejection.status, pending.rejection.text), respond)
        elif pending.transport is not None:
            self._respond(pending.hub, Admission(pending.transport, subprotocol), respond)

    def _respond(self, hub: str | None, outcome: Admission | Refusal, respond: Respond) -> None:
        if isinstance(outcome, Refusal):
            _LOGGER.debug("client refused: %d %s", outcome.status, one_line(outcome.text))
            self.core.observers.handshake_refused(hub, outcome.status, outcome.text)
        elif outcome.transport.connection is None:
            _LOGGER.debug("recovery refused")
        else:
            connection = outcome.transport.connection
            _LOGGER.debug("client %s attached to hub %s", connection.connection_id, connection.hub)
        respond(outcome)

    def when_free(self, function: Callable[[], None]) -> None:
        """Call a function once the service is no longer :attr:`congested`."""
        self._when_free.append(function)

    # ---- Transports

    def attach(self, transport: Transport, writer: Writer) -> None:
        """Connect an open WebSocket, and send the output that its transport already has."""
        self._writers[transport] = writer
        self.flush()
        writer.flush()

    def receive(self, transport: Transport, data: str | bytes) -> None:
        """Pass a message to the service's logic; call :meth:`flush` or :meth:`flush_soon` after one or more."""
        if self.frame_log is not None:
            self.frame_log.received(transport, data)
        self.core.receive(transport, data, monotonic())

    def detach(self, transport: Transport, code: int, reason: str = "", *, broken: bool = False) -> None:
        """Handle the end of a WebSocket: closed by the client, or lost (``code`` is 1006 then). Repeats do nothing.

        ``reason``: the client's own. ``broken``: closed by the service, since the client broke the WebSocket protocol.
        """
        if self._writers.pop(transport, None) is not None:
            connection = transport.connection
            if connection is not None:
                _LOGGER.debug("client %s detached with code %d", connection.connection_id, code)
            self._ended(transport, code, reason, broken=broken)
            self.flush()

    def _ended(self, transport: Transport, code: int, reason: str, *, broken: bool) -> None:
        if broken:
            self.core.transport_broken(transport, code, monotonic())
        else:
            self.core.disconnected(transport, code, monotonic(), reason)

    # ---- Operations of application servers

    async def carry_out(self, write: Write) -> None:
        """Carry out an operation of the data plane; raise OperationError if it is refused."""
        self._end_turn()
        write.carry_out(self.core, self.now())

    async def catch_up(self) -> None:
        """Wait until all that was done before is seen here: at once, where there is one node."""

    # ---- Output

    def flush(self) -> None:
        """Carry out the outputs of the service's logic; call after each group of calls to it."""
        self._end_turn()
        self._flush_others()

    def flush_soon(self) -> None:
        """Carry out the outputs, but write to clients at the end of this turn of the event loop.

        What many clients publish in one turn goes to a member in one write. Messages that this is called for are told
        to :attr:`gathering` before.
        """
        if self.core.prepare_output():
            self.gathering.write_soon()
        self._flush_others()

    def _end_turn(self) -> None:
        self.gathering.written()
        self._write(self.core.transports_with_output())

    def _flush_others(self) -> None:
        if self.webhooks is not None:
            self._flush_handlers(self.webhooks)
        if self.event_hubs is not None:
            self.event_hubs.send(self.core.listener_messages())
        if self.core.deadline < self._timer_deadline:
            self._set_timer(self.core.deadline)

    def _write(self, transports: Iterable[Transport]) -> None:
        for transport in transports:
            writer = self._writers.get(transport)
            if writer is not None:
                writer.flush()

    def _flush_handlers(self, webhooks: WebhookClient) -> None:
        webhooks.carry_out(self.core.handler_calls(monotonic()))
        for pending in self.core.decided_connects():
            self._answer(pending, pending.subprotocol)

    def shut_down(self) -> None:
        """Close all clients with 1001 and stop the timer."""
        self.core.shut_down()
        self.flush()
        self._stop_timer()

    def give_up(self) -> None:
        """Refuse the requests that wait for something outside of this process, such as the log of a cluster."""

    async def close(self) -> None:
        """End the calls of event handlers, and send what event listeners are still to get."""
        if self.webhooks is not None:
            await self.webhooks.close()
        if self.event_hubs is not None:
            await self.event_hubs.close()

    # ---- The timer

    def _set_timer(self, deadline: float) -> None:
        self._stop_timer()
        self._timer_deadline = deadline
        self._timer = asyncio.get_running_loop().call_later(max(deadline - monotonic(), 0.0), self._wake)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_deadline = math.inf

    def _wake(self) -> None:
        self._timer = None
        self._timer_deadline = math.inf
        self._pass_time()
        self.flush()

    def _pass_time(self) -> None:
        self.core.wake(monotonic())


def utc_time(seconds: float) -> str:
    """Return a time in seconds since 1970 like ``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _host_of(endpoint: str) -> str:
    """Return host and port of an endpoint, without the default port of its scheme (RFC 6454 6.2)."""
    url = urlsplit(endpoint)
    default = ":443" if url.scheme == "https" else ":80"
    return url.netloc.removesuffix(default)
