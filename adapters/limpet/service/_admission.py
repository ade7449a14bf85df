"""Admission: the decision about a client before its WebSocket is open (emulator)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote

from limpet.service._identity import Identity
from limpet.service.options import ServiceOptions
from limpet.service.tokens import InvalidToken
from limpet_core.service import (
    SUBPROTOCOLS,
    ClientGrant,
    ConnectRequest,
    InvalidClaims,
    InvalidQuery,
    PendingConnect,
    RawMode,
    Transport,
    is_hub_name,
    select_subprotocol,
)
from limpet_core.service.cluster.waiting import Opening
from limpet_core.service.webhooks.connect_request import connect_request

_WRONG_PATH: Final = "Nothing is here. Clients connect to /client/hubs/{hub}; the operations of servers are below /api."
_NOT_HERE: Final = re.compile(r"/clients/(mqtt|socketio)(/.*)?", re.IGNORECASE | re.DOTALL)
_PROTOCOLS: Final = {"mqtt": "MQTT", "socketio": "Socket.IO"}

# The words in a path have no case (emulator).
_PATH = re.compile(r"/client(/hubs(?:/([^/]*))?)?/?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Handshake:
    """The parts of a request for a WebSocket that matter.

    Attributes:
        hub: the hub in the path; ``None`` if the query has to name it.
        query: the raw query string.
        origin: the URL of the service as the client has it, such as ``http://localhost:8080``.
        authorization: the header, or empty.
        subprotocols: the client's offers.
        headers: all headers.
        own_urls: the URLs of the address at which the server took the connection (:class:`RequestAddress`).
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
    """Answer the handshake with this HTTP status, and a text that says what to do."""

    status: int
    text: str


@dataclass(frozen=True)
class Admission:
    """Open the WebSocket, then call :meth:`Gateway.attach` with a writer for the transport.

    Attributes:
        subprotocol: for the answer, in the client's own spelling; ``None``: no subprotocol.
    """

    transport: Transport
    subprotocol: str | None

    @property
    def mixed(self) -> bool:
        """Whether text and binary frames differ, in both directions: not for a JSON client."""
        connection = self.transport.connection
        return connection is not None and (connection.raw is not None or connection.codec.binary)


Pending: TypeAlias = PendingConnect | Opening
"""A client that waits: for an event handler that decides, or for the log of a cluster."""

Outcome: TypeAlias = Admission | Refusal | Pending
"""The decision about a client, or the wait for it."""


class Entrance(Protocol):
    """Lets clients in, at once or later: see :class:`Gateway`."""

    def decides(self, hub: str) -> bool:
        """Return whether an event handler decides about the clients of a hub."""
        ...

    def connect(
        self, hub: str, subprotocol: str | None, spelled: str | None, grant: ClientGrant, raw: RawMode
    ) -> Outcome:
        """Open a connection; ``spelled`` is the subprotocol in the client's own spelling."""
        ...

    def ask(self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode) -> Outcome:
        """Ask the event handler about a client."""
        ...

    def recover(self, hub: str, connection_id: str, token: str, spelled: str | None) -> Outcome:
        """Bring a client back to a connection."""
        ...


def recovered_subprotocol(transport: Transport, spelled: str | None) -> str | None:
    """Return the subprotocol for the answer to a recovery, which stays, whatever the client offers now (emulator)."""
    if transport.connection is None:
        return spelled
    original = transport.connection.subprotocol
    return original if spelled is None or spelled.lower() != original else spelled


def refuse_path(path: str) -> Refusal:
    """Return the answer to a request for a path at which nothing is, be it for a WebSocket or not."""
    match = _NOT_HERE.fullmatch(path)
    if match is None:
        return Refusal(404, _WRONG_PATH)
    # Server SDKs make such URLs without asking the service.
    name = _PROTOCOLS[match[1].lower()]
    return Refusal(
        501, f"The local service has no {name}. Test it with the cloud; clients here use /client/hubs/{{hub}}."
    )


def hub_of_path(path: str) -> tuple[str | None] | None:
    """Return the hub in the path of the client endpoint; ``None`` for any other path.

    The hub itself is ``None`` where the query has to name it (Azure docs), and empty where it is missing in the path.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    return (None if match[1] is None else unquote(match[2] or ""),)


class Decision:
    """The decision about one handshake, in steps. Each step reads one part of the handshake, or refuses the client."""

    def __init__(self, entrance: Entrance, identity: Identity, options: ServiceOptions, handshake: Handshake) -> None:
        self._entrance = entrance
        self._identity = identity
        self._options = options
        self._handshake = handshake
        self._query = _values_by_name(handshake.query)
        self._values = {name.lower(): values for name, values in self._query.items()}
        self._hub = self._parameter("hub") if handshake.hub is None else handshake.hub
        self._selected = select_subprotocol(handshake.subprotocols)
        self._raw = RawMode()
        self._claims: Mapping[str, object] = {}
        self._grant = ClientGrant()

    def decide(self) -> Outcome:
        refusal = self._check_hub()
        if refusal is not None:
            return refusal
        connection_id = self._parameter("awps_connection_id")
        if connection_id:
            return self._recover(connection_id)
        for step in (
            self._check_subprotocol,
            self._read_raw_mode,
            self._verify_token,
            self._read_grant,
        ):
            refusal = step()
            if refusal is not None:
                return refusal
        return self._connect()

    def _recover(self, connection_id: str) -> Outcome:
        token = self._parameter("awps_reconnection_token")
        spelled = None if self._selected is None else self._selected[1]
        return self._entrance.recover(self._hub, connection_id, token, spelled)

    def _connect(self) -> Outcome:
        handshake = self._handshake
        if self._entrance.decides(self._hub):
            request = connect_request(self._claims, self._query, handshake.headers, handshake.subprotocols)
            return self._entrance.ask(self._hub, self._grant, request, self._raw)
        # A custom subprotocol is not accepted: the client becomes a raw one without any (emulator).
        name, spelled = self._selected or (None, None)
        return self._entrance.connect(self._hub, name, spelled, self._grant, self._raw)

    # ---- Steps

    def _check_hub(self) -> Refusal | None:
        if not self._hub:
            return Refusal(400, "Name a hub: connect to /client/hubs/{hub}.")
        if not is_hub_name(self._hub):
            return Refusal(400, "Invalid hub name: a letter, then at most 127 letters, digits or _`,.[]")
        return None

    def _check_subprotocol(self) -> Refusal | None:
        offers = self._handshake.subprotocols
        if self._entrance.decides(self._hub):
            return None  # the handler may choose any of them
        if self._selected is None and any(offer.lower().startswith("protobuf.") for offer in offers):
            known = f"{', '.join(SUBPROTOCOLS[:-1])} or {SUBPROTOCOLS[-1]}"
            return Refusal(
                400, f"The subprotocol is unknown, or the service lacks the package protobuf. Offer {known}."
            )
        return None

    def _read_raw_mode(self) -> Refusal | None:
        try:
            self._raw = RawMode.from_query(self._values)
        except InvalidQuery as error:
            return Refusal(400, f"Wrong query: {error}.")
        return None

    def _verify_token(self) -> Refusal | None:
        handshake = self._handshake
        token = self._parameter("access_token") or _bearer_token(handshake.authorization)
        if not token:
            if self._options.anonymous or self._options.hub(self._hub).anonymous:
                return None
            return Refusal(401, "The URL has no access token. Get a client URL from your server, or from `limpet url`.")
        endpoints = self._identity.accepted_endpoints(handshake.origin, handshake.own_urls)
        try:
            self._claims = self._identity.tokens.client_claims(token, endpoints, self._hub)
        except InvalidToken as error:
            return Refusal(401, f"The access token is not valid: {error}. Get a new client URL.")
        return None

    def _read_grant(self) -> Refusal | None:
        try:
            self._grant = ClientGrant.from_claims(self._claims)
        except InvalidClaims as error:
            return Refusal(400, f"The access token is not usable: {error}.")
        return None

    def _parameter(self, name: str) -> str:
        """Return the last value of a query parameter, its name in any case (emulator), or an empty text."""
        values = self._values.get(name)
        return values[-1] if values else ""


def _values_by_name(query: str) -> dict[str, list[str]]:
    """Return the values of each parameter under the first spelling of its name; case does not matter (emulator)."""
    spelled: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(spelled.setdefault(name.lower(), name), []).append(value)
    return values


def _bearer_token(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""
