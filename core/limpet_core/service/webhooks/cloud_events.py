"""CloudEvents over HTTP: the bodies of calls to event handlers, and the meaning of their answers (Azure docs)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from limpet_core.protocol.names import PROTOBUF_SUBPROTOCOLS, is_group_name
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.webhooks.answers import Answer, Failure, Headers, Outcome
from limpet_core.service.wire.charsets import decode_text
from limpet_core.service.wire.codecs import is_spoken
from limpet_core.service.wire.from_client import ProtocolViolation, check_json
from limpet_core.service.wire.metadata import HEADER_PREFIX, InvalidMetadata, metadata_from_headers
from limpet_core.service.wire.requests import DataType, Event, Invoke
from limpet_core.service.wire.to_client import Publication, server_publication
from limpet_core.text import one_line

CONTENT_TYPES: Final[Mapping[DataType, str]] = {
    "text": "text/plain; charset=utf-8",
    "json": "application/json",
    "binary": "application/octet-stream",
    "protobuf": "application/x-protobuf",
}
"""The content types of calls, to the letter (emulator)."""

_DATA_TYPES: Final[Mapping[str, DataType]] = {
    content_type.partition(";")[0]: name for name, content_type in CONTENT_TYPES.items()
}
_MAX_REJECTION: Final = 1024
_MAX_QUOTED: Final = 100

_encode = msgspec.json.encode


# ---- To the handler


class ConnectRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of a connect event: a client that wants to connect, without its tokens.

    Attributes:
        claims: values by name; ``query`` and ``headers`` likewise.
        subprotocols: the client's offers.
    """

    claims: dict[str, list[str]] = {}
    query: dict[str, list[str]] = {}
    headers: dict[str, list[str]] = {}
    subprotocols: list[str] = []
    client_certificates: list[dict[str, str]] = []

    def body(self) -> bytes:
        """Return the body as JSON."""
        return _encode(self)


class ClientEvent(msgspec.Struct, frozen=True):
    """An event of a client, its payload decoded; ``ack_id`` is ``None`` if no answer is wanted."""

    name: str
    data_type: DataType
    payload: bytes
    ack_id: int | None = None
    metadata: dict[str, str] = {}

    @classmethod
    def from_message(cls, message: Event | Invoke) -> ClientEvent:
        """Return the event of a decoded message; an invocation has no ack id."""
        raw = bytes(message.data)
        if message.data_type == "json":
            payload = raw
        else:
            text = msgspec.json.decode(raw, type=str)
            payload = text.encode() if message.data_type == "text" else base64.b64decode(text)
        metadata = bytes(message.metadata)
        pairs: dict[str, str] = msgspec.json.decode(metadata, type=dict[str, str]) if metadata else {}
        ack_id = message.ack_id if isinstance(message, Event) else None
        return cls(message.event, message.data_type, payload, ack_id, pairs)

    def metadata_properties(self) -> dict[str, str]:
        """Return the metadata by the names of headers; keys that differ only in case become one (emulator)."""
        return {HEADER_PREFIX + key.lower(): value for key, value in self.metadata.items()}

    def metadata_headers(self) -> Headers:
        """Return the metadata as request headers."""
        return tuple((name, header_value(value)) for name, value in self.metadata_properties().items())


def header_value(text: str) -> str:
    """Return ``text`` as the value of a header.

    Characters that cannot be in a header are percent-escaped as UTF-8, as the CloudEvents HTTP binding has it
    (3.1.3.2); others stay as they are, since the official server SDKs do not unescape.
    """
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    last = len(text) - 1
    return "".join(
        char
        if (char.isascii() and char.isprintable() and (char != " " or 0 < at < last))
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))
        for at, char in enumerate(text)
    )


# ---- From the handler


class Rejection(msgspec.Struct, frozen=True):
    """A client may not connect: the HTTP status and text for the answer to its handshake."""

    status: int
    text: str


class Acceptance(msgspec.Struct, frozen=True):
    """A client may connect with ``grant``; ``subprotocol`` is the one that the handler has picked, if any."""

    grant: ClientGrant
    subprotocol: str | None = None


class _ConnectAnswer(msgspec.Struct, frozen=True, rename="camel"):
    user_id: str | None = None
    groups: list[str] | None = None
    roles: list[str] | None = None
    subprotocol: str | None = None


_connect_decoder: Final[msgspec.json.Decoder[_ConnectAnswer | None]] = msgspec.json.Decoder(_ConnectAnswer | None)
_fields_decoder: Final[msgspec.json.Decoder[dict[str, msgspec.Raw] | None]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw] | None
)
_FIELDS: Final = {name.lower(): name for name in _ConnectAnswer.__struct_encode_fields__}


def _decode_connect_answer(body: bytes) -> _ConnectAnswer | None:
    """Decode the answer to a connect event; the case of its names does not matter (emulator)."""
    fields = _fields_decoder.decode(body)
    if fields is None or fields.keys() <= set(_FIELDS.values()):
        return _connect_decoder.decode(body)
    return _connect_decoder.decode(_encode({_FIELDS.get(name.lower(), name): value for name, value in fields.items()}))


def read_connect_answer(outcome: Outcome, grant: ClientGrant, offers: Sequence[str]) -> Acceptance | Rejection:
    """Return the decision about a client. The handler's answer may change the ``grant`` of the token (emulator)."""
    if isinstance(outcome, Failure):
        return Rejection(500, f"The connect event could not be delivered: {outcome.text}.")
    if not outcome.ok:
        return _rejection(outcome)
    if outcome.status == 204 or not outcome.body:
        return Acceptance(grant)
    if outcome.encoding:
        return Rejection(500, f"The event handler's answer to the connect event is not valid: {_encoded(outcome)}.")
    try:
        answer = _decode_connect_answer(outcome.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejection(500, f"The event handler's answer to the connect event is not valid: {error}.")
    if answer is None:
        return Acceptance(grant)
    if not all(is_group_name(group) for group in answer.groups or ()):
        return Rejection(500, "The event handler's answer to the connect event holds an invalid group name.")
    chosen = (answer.subprotocol or "").lower()
    if chosen and chosen not in [offer.lower() for offer in offers]:
        return Rejection(500, "The event handler chose a subprotocol that the client does not offer.")
    if chosen in PROTOBUF_SUBPROTOCOLS and not is_spoken(chosen):
        return Rejection(500, "The event handler chose protobuf, for which this service lacks the package protobuf.")
    return Acceptance(
        ClientGrant(
            grant.user_id if answer.user_id is None else answer.user_id,
            grant.roles if answer.roles is None else tuple(answer.roles),
            tuple(answer.groups) if answer.groups else grant.groups,
        ),
        answer.subprotocol or None,
    )


def _rejection(answer: Answer) -> Rejection:
    # A client that asks for a WebSocket cannot use a redirect.
    if not 400 <= answer.status < 600:
        return Rejection(500, f"The event handler answered the connect event with status {answer.status}.")
    text = refusal_text(answer) or f"The event handler refused the connection with status {answer.status}."
    return Rejection(answer.status, text)


def refusal_text(answer: Answer) -> str:
    """Return what a handler says to the client that it refuses, empty if nothing: the text of a 4xx answer."""
    if (
        not 400 <= answer.status < 500
        or answer.encoding
        or answer.content_type[0] not in ("", "text/plain", "application/json")
    ):
        return ""
    return answer.body[:_MAX_REJECTION].decode("utf-8", "replace").strip()


class Reply(msgspec.Struct, frozen=True):
    """A handler's reply to the client that raised the event."""

    data_type: DataType
    payload: bytes
    metadata: bytes = b""

    def data(self) -> bytes:
        """Return the payload as JSON."""
        if self.data_type == "json":
            return self.payload
        return _encode(self.payload.decode() if self.data_type == "text" else self.payload)

    def publication(self) -> Publication:
        """Return the reply as a message from the server."""
        return server_publication(self.data_type, self.data(), self.metadata)


def read_reply(outcome: Outcome) -> Reply | str | None:
    """Return the reply to the client, ``None`` if there is none, or the text of an error if the event failed.

    A reply of metadata alone is an empty text.
    """
    if isinstance(outcome, Failure):
        problem = "The event handler failed" if outcome.delivered else "The event could not be delivered"
        return f"{problem}: {outcome.text}."
    if not outcome.ok:
        return f"The event handler answered with status {outcome.status}."
    try:
        metadata = _metadata(outcome)
        if not outcome.body or outcome.status == 204:
            return Reply("text", b"", metadata) if metadata else None
        return Reply(*_payload(outcome), metadata)
    except (InvalidMetadata, ProtocolViolation) as error:
        return f"The event handler's answer is not valid: {error}."


def no_handler(event: str) -> tuple[str, str]:
    """Return the name and the text of the error for an event that nobody gets."""
    hint = "add one to the settings of the hub (`limpet serve --event-handler ...`)."
    return ("NotFound", f"There is no event handler for the event '{event}': {hint}")


def not_delivered(problem: str) -> tuple[str, str]:
    """Return the name and the text of the error for an event that certainly has not reached its handler."""
    # The emulator has one name for this and for a handler that fails; clients cannot tell them apart then.
    return ("NotFound", f"{problem} No event handler was called.")


def _metadata(answer: Answer) -> bytes:
    # A header without a key is ignored, not refused: the reply must not be lost over it (emulator).
    return metadata_from_headers((name, value) for name, value in answer.headers if name.lower() != HEADER_PREFIX)


def _encoded(answer: Answer) -> str:
    """Return what is wrong with an answer whose body is compressed, though the request allows it not."""
    return f"its content encoding is {one_line(answer.encoding, _MAX_QUOTED)}; answer without one"


def _payload(answer: Answer) -> tuple[DataType, bytes]:
    if answer.encoding:
        raise ProtocolViolation(_encoded(answer))
    media_type, charset = answer.content_type
    data_type = _DATA_TYPES.get(media_type or "application/octet-stream")
    if data_type is None:
        raise ProtocolViolation(f"its content type is {one_line(media_type, _MAX_QUOTED)}")
    if data_type not in ("text", "json"):
        return data_type, answer.body
    try:
        payload = decode_text(answer.body, charset).encode()
    except LookupError:
        raise ProtocolViolation(f"its charset is {one_line(charset, _MAX_QUOTED)}, which is not supported") from None
    except UnicodeError:
        raise ProtocolViolation(f"its body is not {charset}") from None
    if data_type == "json":
        try:
            payload = check_json(payload)
        except ValueError as error:
            raise ProtocolViolation(f"its body is {error}") from None
    return data_type, payload
