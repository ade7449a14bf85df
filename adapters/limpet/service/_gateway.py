"""Between the WebSockets and the service's logic: admission, output, the one timer."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from limpet.service._connect_event import connect_request
from limpet.service.options import ServiceOptions
from limpet.service.tokens import InvalidToken, TokenAuthority
from limpet_core.service import (
    JSON,
    NO_CLOSE_FRAME,
    RELIABLE_JSON,
    ClientGrant,
    ConnectionString,
    EventSettings,
    InvalidClaims,
    InvalidQuery,
    PendingConnect,
    RawMode,
    ServiceCore,
    Transport,
    index_by_hub,
    is_endpoint,
    is_hub_name,
    select_subprotocol,
)
from limpet_core.text import one_line

if TYPE_CHECKING:
    from limpet.service._webhooks import Upstream

__all__ = ["Admission", "Gateway", "Handshake", "Refusal", "Writer", "hub_of_path"]

_LOGGER = logging.getLogger("limpet.service")
_PATH = re.compile(r"/client(/hubs(?:/([^/]*))?)?/?")


class Writer(Protocol):
    """Sends what the service has for one client."""

    def flush(self) -> None:
        """Send the transport's messages, then carry out its order to close; must not raise or wait."""
        ...


@dataclass(frozen=True)
class Handshake:
    """What matters of a request to open a WebSocket.

    ``hub`` is the hub in the path, ``None`` if it has none; ``query`` the raw query string; ``origin`` is
    where the client believes the service to be, such as ``http://localhost:8080``; ``own_urls`` are the URLs of the
    address at which the server took the connection (`Reached`).
    """

    hub: str | None
    query: str
    origin: str
    authorization: str
    subprotocols: list[str]
    headers: Iterable[tuple[str, str]]
    own_urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Answer with this HTTP status, and a text that says what to do, instead of opening the WebSocket."""

    status: int
    text: str


@dataclass(frozen=True)
class Admission:
    """Open the WebSocket with this subprotocol, if any, then `Gateway.attach` a writer to the transport.

    It is the client's own spelling, to be repeated in the answer.
    """

    transport: Transport
    subprotocol: str | None

    @property
    def raw(self) -> bool:
        """Whether the client is a raw one: text and binary frames differ, in both directions."""
        connection = self.transport.connection
        return connection is not None and connection.raw is not None


Respond: TypeAlias = Callable[[Admission | Refusal], None]
"""Answers a handshake; must not raise or wait."""


def hub_of_path(path: str) -> tuple[str | None] | None:
    """Return the hub named in the path of the client endpoint, ``None`` for every other path.

    The hub itself is ``None`` where the query has to name it (Azure docs), and empty where the path should.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    return (None if match[1] is None else unquote(match[2] or ""),)


class Gateway:
    """The service's logic with a clock, tokens and the writers of its clients.

    ``endpoint`` is the configured URL of the service, ``own_endpoint`` the one it listens on; either may be
    ``None``. Has to be used within one event loop at a time. Raises `ValueError` if ``endpoint`` is no such URL.
    """

    def __init__(self, options: ServiceOptions, endpoint: str | None) -> None:
        if endpoint is not None and not is_endpoint(endpoint):
            raise ValueError("the endpoint of the service is an http or https URL: host, port and path, nothing else")
        self.options = options
        self.access_key: str = options.access_key or secrets.token_urlsafe(48)
        self.endpoint = endpoint
        self.own_endpoint: str | None = None
        keys = tuple(key for key in (self.access_key, options.secondary_access_key) if key is not None)
        self.tokens: TokenAuthority = TokenAuthority(*keys)
        handlers = index_by_hub({hub: special.event_handlers for hub, special in options.hubs.items()})
        self.core: ServiceCore = ServiceCore(
            options.limits(),
            new_connection_id=lambda: secrets.token_urlsafe(18),
            issue_reconnection_token=self.tokens.issue_reconnection_token,
            check_reconnection_token=self.tokens.check_reconnection_token,
            events=EventSettings(
                handlers=handlers,
                access_keys=keys,
                utc_time=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                origin="" if endpoint is None else _origin_of(endpoint),
            ),
        )
        self.upstream: Upstream | None = None
        if handlers:
            # Only now, since the HTTP library takes long to import.
            from limpet.service._webhooks import Upstream

            self.upstream = Upstream(self.core, self.flush)
        self._deciding: dict[PendingConnect, Respond] = {}
        self._writers: dict[Transport, Writer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline = math.inf

    def listens_on(self, endpoint: str) -> None:
        """Note the URL on which the service itself listens."""
        self.own_endpoint = endpoint
        if self.endpoint is None:
            self.core.events.origin = _origin_of(endpoint)

    def receive(self, transport: Transport, data: str | bytes) -> None:
        """Hand a message to the service's logic; call `flush` after one or some."""
        self.core.receive(transport, data, monotonic())

    def endpoints(self, origin: str, own_urls: tuple[str, ...]) -> tuple[str, ...]:
        """Return the URLs that the audience of a token may begin with, if its bearer has come by ``origin``.

        A configured endpoint is the only one. Without one the address that the peer used is as good as those at which
        it arrived: localhost for 127.0.0.1, the name of a proxy in front.
        """
        if self.endpoint is not None:
            return (self.endpoint,)
        return (*(() if self.own_endpoint is None else (self.own_endpoint,)), origin, *own_urls)

    def signed_endpoint(self, own_urls: tuple[str, ...]) -> str:
        """Return the endpoint to sign tokens for: one of `endpoints`, and nothing that a peer has sent."""
        return self.endpoint or self.own_endpoint or own_urls[0]

    def connection_string(self, endpoint: str) -> ConnectionString:
        """Return the connection string of this service at ``endpoint``."""
        return ConnectionString(endpoint.rstrip("/"), self.access_key)

    # --- Admission ----------------------------------------------------------------------------------

    def admit(self, handshake: Handshake, respond: Respond) -> PendingConnect | None:
        """Decide about a client, before its WebSocket is open (emulator).

        ``respond`` is called at once, and ``None`` returned; or later, if an event handler has to be asked. Then
        call `forget` with what is returned if the client leaves before.
        """
        outcome = self._admit(handshake)
        if isinstance(outcome, PendingConnect):
            self._deciding[outcome] = respond
            self.flush()
            return outcome
        self._respond(handshake.hub, outcome, respond)
        return None

    def forget(self, pending: PendingConnect) -> None:
        """Note that a client left before its WebSocket was open."""
        if self._deciding.pop(pending, None) is not None:
            self.core.forget_connect(pending)
        elif pending.transport is not None:
            self.core.disconnected(pending.transport, NO_CLOSE_FRAME, monotonic())
        self.flush()

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

    def _admit(self, handshake: Handshake) -> Admission | Refusal | PendingConnect:
        query = parse_qs(handshake.query, keep_blank_values=True)
        hub = handshake.hub if handshake.hub is not None else _last(query, "hub")
        if not hub:
            return Refusal(400, "Name a hub: connect to /client/hubs/{hub}.")
        if not is_hub_name(hub):
            return Refusal(400, "Invalid hub name: a letter, then at most 127 letters, digits or _`,.[]")
        selected = select_subprotocol(handshake.subprotocols)
        connection_id = _last(query, "awps_connection_id")
        if connection_id:
            token = _last(query, "awps_reconnection_token")
            transport = self.core.recover(hub, connection_id, token, monotonic())
            spelled = None if selected is None else selected[1]
            if transport.connection is not None:
                # A recovered connection keeps its subprotocol, whatever is offered now (emulator).
                original = transport.connection.subprotocol
                if spelled is None or spelled.lower() != original:
                    spelled = original
            return Admission(transport, spelled)
        if selected is None and any(offer.lower().startswith("protobuf.") for offer in handshake.subprotocols):
            return Refusal(400, f"protobuf is not supported by this service; offer {RELIABLE_JSON} or {JSON}.")
        try:
            raw = RawMode.from_query(query)
        except InvalidQuery as error:
            return Refusal(400, f"Wrong query: {error}.")
        claims = self._claims(handshake, hub, _last(query, "access_token"))
        if isinstance(claims, Refusal):
            return claims
        try:
            grant = ClientGrant.from_claims(claims)
        except InvalidClaims as error:
            return Refusal(400, f"The access token is not usable: {error}.")
        most = self.options.max_connections
        if most is not None and self.core.connection_count >= most:
            return Refusal(429, f"All {most} connections of this service are taken. Try again later.")
        if self.core.handler_decides(hub):
            request = connect_request(claims, query, handshake.headers, handshake.subprotocols)
            return self.core.ask_to_connect(hub, grant, request, raw)
        # A custom subprotocol is not ours to accept: such a client is a raw one without any (emulator).
        name, spelled = selected or (None, None)
        return Admission(self.core.connect(hub, name, grant, monotonic(), raw), spelled)

    def _claims(self, handshake: Handshake, hub: str, token: str) -> Mapping[str, object] | Refusal:
        if not token:
            scheme, _, credentials = handshake.authorization.partition(" ")
            if scheme.lower() == "bearer":
                token = credentials.strip()
        if not token:
            if self.options.anonymous or self.options.hub(hub).anonymous:
                return {}
            return Refusal(401, "The URL has no access token. Get a client URL from your server, or from `limpet url`.")
        try:
            return self.tokens.client_claims(token, self.endpoints(handshake.origin, handshake.own_urls), hub)
        except InvalidToken as error:
            return Refusal(401, f"The access token is not valid: {error}. Get a new client URL.")

    # --- The life of a transport --------------------------------------------------------------------

    def attach(self, transport: Transport, writer: Writer) -> None:
        """Connect an open WebSocket, and send what is there for it already."""
        self._writers[transport] = writer
        self.flush()
        writer.flush()

    def detach(self, transport: Transport, code: int, *, broken: bool = False) -> None:
        """Note that a client has closed its WebSocket, or lost it (``code`` is 1006 then). Repeats do nothing.

        ``broken``: it was we who closed it, over a fault of the client's.
        """
        if self._writers.pop(transport, None) is not None:
            connection = transport.connection
            if connection is not None:
                _LOGGER.debug("client %s detached with code %d", connection.connection_id, code)
            ended = self.core.transport_broken if broken else self.core.disconnected
            ended(transport, code, monotonic())
            self.flush()

    def flush(self) -> None:
        """Carry out what the service's logic decided; to be called after each group of calls to it."""
        for transport in self.core.transports_with_output():
            writer = self._writers.get(transport)
            if writer is not None:
                writer.flush()
        if self.upstream is not None:
            self._flush_handlers(self.upstream)
        if self.core.deadline < self._timer_deadline:
            self._arm()

    def _flush_handlers(self, upstream: Upstream) -> None:
        upstream.carry_out(self.core.handler_calls(monotonic()))
        for pending in self.core.decided_connects():
            respond = self._deciding.pop(pending, None)
            rejection, transport = pending.rejection, pending.transport
            if respond is None:
                continue
            if rejection is not None:
                self._respond(pending.hub, Refusal(rejection.status, rejection.text), respond)
            elif transport is not None:
                self._respond(pending.hub, Admission(transport, pending.subprotocol), respond)

    def shut_down(self) -> None:
        """Close all clients with 1001 and stop the timer."""
        self.core.shut_down()
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_deadline = math.inf

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_deadline = self.core.deadline
        delay = max(self._timer_deadline - monotonic(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._timer_deadline = math.inf
        self.core.wake(monotonic())
        self.flush()


def _origin_of(endpoint: str) -> str:
    """Return host and port of an endpoint, without the port that its scheme has anyway (RFC 6454 6.2)."""
    url = urlsplit(endpoint)
    default = ":443" if url.scheme == "https" else ":80"
    return url.netloc.removesuffix(default)


def _last(query: dict[str, list[str]], name: str) -> str:
    values = query.get(name)
    return values[-1] if values else ""
