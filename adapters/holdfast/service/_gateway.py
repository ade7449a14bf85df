"""Between the WebSockets and the service's logic: admission, output, the one timer."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from urllib.parse import parse_qs, unquote

from holdfast_core.service import (
    ABNORMAL,
    ClientGrant,
    Close,
    ConnectionString,
    InvalidClaims,
    ServiceCore,
    Transport,
    is_hub_name,
    select_subprotocol,
)

from .options import ServiceOptions
from .tokens import InvalidToken, TokenAuthority

__all__ = ["Admission", "Gateway", "Handshake", "Refusal", "Writer", "hub_of_path"]

_LOGGER = logging.getLogger("holdfast.service")
_PATH = re.compile(r"/client(?:/hubs/([^/]+))?/?")


class Writer(Protocol):
    """Sends what the service has for one client."""

    def flush(self) -> None:
        """Send the transport's messages, then carry out its order to close; must not raise or wait."""
        ...


@dataclass(frozen=True)
class Handshake:
    """What matters of a request to open a WebSocket.

    ``hub`` is the hub in the path, ``None`` if it has none; ``query`` the raw query string; ``origin`` is
    where the client believes the service to be, such as ``http://localhost:8080``.
    """

    hub: str | None
    query: str
    origin: str
    authorization: str
    subprotocols: list[str]


@dataclass(frozen=True)
class Refusal:
    """Answer with this HTTP status, and a text that says what to do, instead of opening the WebSocket."""

    status: int
    text: str


@dataclass(frozen=True)
class Admission:
    """Open the WebSocket with this subprotocol, if any, then `Gateway.attach` a writer to the transport."""

    transport: Transport
    subprotocol: str | None


def hub_of_path(path: str) -> tuple[str | None] | None:
    """Return the hub named in the path of the client endpoint, ``None`` for every other path.

    The hub itself is ``None`` where the query has to name it (Azure docs).
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    hub = match.group(1)
    return (None if hub is None else unquote(hub),)


class Gateway:
    """The service's logic with a clock, tokens and the writers of its clients.

    ``endpoint`` is the configured URL of the service, ``own_endpoint`` the one it listens on; either may be
    ``None``. Has to be used within one event loop at a time.
    """

    def __init__(self, options: ServiceOptions, endpoint: str | None) -> None:
        self.options = options
        self.access_key: str = options.access_key or secrets.token_urlsafe(48)
        self.endpoint = endpoint
        self.own_endpoint: str | None = None
        self.tokens: TokenAuthority = TokenAuthority(self.access_key)
        self.core: ServiceCore = ServiceCore(
            options.limits(),
            new_connection_id=lambda: secrets.token_urlsafe(18),
            issue_reconnection_token=self.tokens.issue_reconnection_token,
            check_reconnection_token=self.tokens.check_reconnection_token,
        )
        self._writers: dict[Transport, Writer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline = math.inf

    def receive(self, transport: Transport, data: str | bytes) -> None:
        """Hand a message to the service's logic; call `flush` after one or some."""
        self.core.receive(transport, data, monotonic())

    def connection_string(self, endpoint: str) -> ConnectionString:
        """Return the connection string of this service at ``endpoint``."""
        return ConnectionString(endpoint.rstrip("/"), self.access_key)

    # --- Admission ----------------------------------------------------------------------------------

    def admit(self, handshake: Handshake) -> Admission | Refusal:
        """Decide about a client, before its WebSocket is open (emulator)."""
        outcome = self._admit(handshake)
        if isinstance(outcome, Refusal):
            _LOGGER.debug("client refused: %d %s", outcome.status, outcome.text)
            self.core.observers.handshake_refused(handshake.hub, outcome.status, outcome.text)
        elif outcome.transport.connection is None:
            _LOGGER.debug("recovery refused")
        else:
            connection = outcome.transport.connection
            _LOGGER.debug("client %s attached to hub %s", connection.connection_id, connection.hub)
        return outcome

    def _admit(self, handshake: Handshake) -> Admission | Refusal:
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
        if selected is None:
            return Refusal(
                400,
                "Offer a subprotocol: json.reliable.webpubsub.azure.v1 or json.webpubsub.azure.v1. "
                "Clients without one are not supported yet.",
            )
        grant = self._grant(handshake, hub, _last(query, "access_token"))
        if isinstance(grant, Refusal):
            return grant
        name, spelled = selected
        return Admission(self.core.connect(hub, name, grant, monotonic()), spelled)

    def _grant(self, handshake: Handshake, hub: str, token: str) -> ClientGrant | Refusal:
        if not token:
            scheme, _, credentials = handshake.authorization.partition(" ")
            if scheme.lower() == "bearer":
                token = credentials.strip()
        if not token:
            if self.options.anonymous:
                return ClientGrant()
            return Refusal(401, "Add an access token to the URL: ?access_token=...")
        # The very address the client used is as good as ours: localhost instead of 127.0.0.1.
        known = (self.endpoint, self.own_endpoint, handshake.origin)
        endpoints = tuple(endpoint for endpoint in known if endpoint is not None)
        try:
            return ClientGrant.from_claims(self.tokens.client_claims(token, endpoints, hub))
        except InvalidToken as error:
            return Refusal(401, f"The access token is not valid: {error}. Get a new client URL.")
        except InvalidClaims as error:
            return Refusal(400, f"The access token is not usable: {error}.")

    # --- The life of a transport --------------------------------------------------------------------

    def attach(self, transport: Transport, writer: Writer) -> None:
        """Connect an open WebSocket, and send what is there for it already."""
        self._writers[transport] = writer
        self.flush()
        writer.flush()

    def detach(self, transport: Transport, code: int) -> None:
        """Note that a WebSocket is closed, or lost (``code`` is 1006 then). Repeats do nothing."""
        if self._writers.pop(transport, None) is not None:
            connection = transport.connection
            if connection is not None:
                _LOGGER.debug("client %s detached with code %d", connection.connection_id, code)
            self.core.disconnected(transport, code, monotonic())
            self.flush()

    def flush(self) -> None:
        """Carry out what the service's logic decided; to be called after each group of calls to it."""
        for transport in self.core.transports_with_output():
            writer = self._writers.get(transport)
            if writer is not None:
                writer.flush()
        if self.core.deadline < self._timer_deadline:
            self._arm()

    def drop(self, connection_id: str) -> bool:
        """Abort the TCP connection of a client; false if it is not attached."""
        connection = self.core.connection(connection_id)
        transport = None if connection is None else connection.transport
        if transport is None:
            return False
        transport.end(Close(ABNORMAL, "Dropped."), discard=True)
        self.flush()
        return True

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


def _last(query: dict[str, list[str]], name: str) -> str:
    values = query.get(name)
    return values[-1] if values else ""
