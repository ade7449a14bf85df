"""The parameters of requests to the data plane: query parameters, names in paths, payloads."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from limpet_core.protocol.names import is_group_name, is_hub_name
from limpet_core.protocol.rules import MAX_TTL
from limpet_core.service.odata.expressions import InvalidFilter
from limpet_core.service.odata.filters import Filter
from limpet_core.service.wire.charsets import decode_text
from limpet_core.service.wire.content_types import read_content_type
from limpet_core.service.wire.from_client import check_json
from limpet_core.text import one_line

__all__ = [
    "API_VERSIONS",
    "GroupChange",
    "OperationError",
    "Query",
    "bad_request",
    "connection_id",
    "group_name",
    "hub_name",
    "payload",
    "user_id",
]

API_VERSIONS: Final = ("2021-10-01", "2022-11-01", "2023-07-01", "2024-01-01", "2024-12-01")
"""The versions of the data plane that are generally available (openapi)."""

_PREVIEW: Final = re.compile(r"([0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))-preview", re.IGNORECASE)

_DATA_TYPES: Final = {"application/json": "json", "text/plain": "text", "application/octet-stream": "binary"}


class OperationError(Exception):
    """An operation is refused or not possible (openapi).

    Attributes:
        status: the HTTP status of the answer.
        code: the error code.
        message: for people. It begins with the text of the emulator, if that has one.
        target: what the error is about: a parameter, ``Connection``, ``Group`` or ``User``, or the whole request.
    """

    def __init__(self, status: int, code: str, message: str, target: str = "Request") -> None:
        super().__init__(message)
        self.status: int = status
        self.code: str = code
        self.message: str = message
        self.target: str = target


def bad_request(message: str, target: str = "Request") -> OperationError:
    """Return the error for an invalid request."""
    return OperationError(400, "Error.BadRequest", message, target)


class Query:
    """The query parameters of a request; names are case-insensitive.

    All methods raise :class:`OperationError` with status 400 for an illegal value, or for more than one where one is
    allowed.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def all(self, name: str) -> list[str]:
        """Return the values of a repeatable parameter."""
        return self._values.get(name.lower(), [])

    def one(self, name: str) -> str | None:
        """Return the value of a parameter; ``None`` if it is missing."""
        values = self.all(name)
        if len(values) > 1:
            raise bad_request(f"Invalid {name}. It is given {len(values)} times.", name)
        return values[0] if values else None

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return the value of a parameter as a whole number between two bounds; ``None`` if it is missing."""
        text = self.one(name)
        if text is None:
            return None
        # At most ten digits: the bounds of the data plane need no more.
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
            raise bad_request(f"Invalid {name}. It is a number between {low} and {high}.", name)
        return int(text)

    def filter(self) -> Filter | None:
        """Return the OData filter; ``None`` if it is missing or blank, as the emulator reads a query."""
        return _filter((self.one("filter") or "").strip())

    def time_to_live(self) -> int:
        """Return the seconds after which an undelivered message is dropped; 0: never."""
        return self.integer("messageTtlSeconds", 0, MAX_TTL) or 0

    def check_client_type(self) -> None:
        """Check that the kind of clients that a token is for is the default one; 501 for MQTT."""
        client_type = (self.one("clientType") or "default").lower()
        if client_type == "mqtt":
            message = "MQTT client tokens are not supported by the local service."
            raise OperationError(501, "NotImplemented", message)
        if client_type != "default":
            raise bad_request("Invalid clientType. It is Default.", "clientType")

    def api_version(self) -> str:
        """Return the version of the data plane to follow; a missing one means the newest (emulator).

        A preview stands for the version that it precedes, or for the newest one. Any other unknown version is refused.
        """
        version = self.one("api-version")
        if version is None or version in API_VERSIONS:
            return version or API_VERSIONS[-1]
        preview = _PREVIEW.fullmatch(version)
        if preview is None:
            known = f"Known are {', '.join(API_VERSIONS)}, and dated previews of them."
            raise bad_request(f"The specified API version is not supported. {known}", "api-version")
        return next((known for known in API_VERSIONS if preview[1] <= known), API_VERSIONS[-1])


def hub_name(name: str) -> str:
    """Return the name of a hub; raise :class:`OperationError` if it is illegal."""
    if not is_hub_name(name):
        rule = "It begins with a letter; letters, digits and _`,.[] follow, at most 127 of them."
        raise bad_request(f"Invalid hub name. {rule}", "hub")
    return name


def group_name(name: str | None, target: str = "group") -> str:
    """Return the name of a group; raise :class:`OperationError`, about ``target``, if it is illegal."""
    if name is None or not is_group_name(name):
        raise bad_request("Invalid group name. It has 1 to 1024 characters, not all white space.", target)
    return name


def user_id(text: str) -> str:
    """Return the id of a user; raise :class:`OperationError` if it is blank."""
    return _not_blank(text, "user ID", "userId")


def connection_id(text: str) -> str:
    """Return the id of a connection; raise :class:`OperationError` if it is blank."""
    return _not_blank(text, "connection ID", "connectionId")


def _not_blank(text: str, what: str, target: str) -> str:
    if not text.strip():
        raise bad_request(f"Invalid {what}. It is blank.", target)
    return text


def payload(content_type: str | None, body: bytes) -> tuple[str, bytes]:
    """Return the data type of a message to send, and its data as JSON (openapi).

    Without a content type the data type is binary (emulator).

    Raises:
        OperationError: 415 for a content type or charset that is not supported, 400 for a body that does not have its
            content type.
    """
    media_type, charset = read_content_type(content_type or "application/octet-stream") or ("", "")
    data_type = _DATA_TYPES.get(media_type)
    if data_type is None:
        raise _wrong_type(content_type, "application/json, text/plain or application/octet-stream")
    if data_type == "binary":
        return data_type, msgspec.json.encode(binascii.b2a_base64(body, newline=False).decode())
    text = _text(body, charset)
    if data_type == "text":
        return data_type, msgspec.json.encode(text)
    try:
        return data_type, check_json(text.encode()).strip()
    except ValueError as error:
        hint = "Text that is no JSON has the content type text/plain" if text.strip() else "It is empty"
        hint = f"It is {error}" if "nested" in str(error) else hint
        raise bad_request(f"The request body is not a valid JSON. {hint}.") from None


def _text(body: bytes, charset: str) -> str:
    try:
        return decode_text(body, charset).removeprefix("\ufeff")
    except LookupError:
        raise _unsupported("The charset is not supported; use UTF-8.") from None
    except UnicodeDecodeError:
        raise bad_request("The body is not valid text in its charset.") from None


class GroupChange(msgspec.Struct, frozen=True):
    """The groups to join or leave, and the filter for the connections; ``None``: all connections."""

    groups: tuple[str, ...]
    filter: Filter | None

    @classmethod
    def from_body(cls, content_type: str | None, body: bytes) -> GroupChange:
        """Read ``{"groups": [...], "filter": "..."}``; names in any case (emulator).

        A filter whose name is not recognized, or whose text is blank, must not select every connection.

        Raises:
            OperationError: 415 for a content type that is not JSON, or none; 400 for any other body.
        """
        media_type, charset = read_content_type(content_type or "") or ("", "")
        if media_type != "application/json":
            raise _wrong_type(content_type, "application/json")
        text = _text(body, charset)
        try:
            members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            found = {name.lower(): value for name, value in members.items()}
            groups = msgspec.json.decode(found.get("groups", b"null"), type=list[str] | None)
            where = msgspec.json.decode(found.get("filter", b"null"), type=str | None)
        except (msgspec.DecodeError, RecursionError):
            form = 'It is {"groups": ["..."], "filter": "..."}.'
            raise bad_request(f"The request body is not a valid groups request. {form}") from None
        if not groups or not all(map(is_group_name, groups)):
            rule = "A group name has 1 to 1024 characters, not all white space."
            raise bad_request(f"A nonempty list of valid group names is required. {rule}")
        return cls(tuple(groups), _filter(where))


def _filter(text: str | None) -> Filter | None:
    if not text:
        return None
    try:
        return Filter(text)
    except InvalidFilter as error:
        raise bad_request(f"Invalid filter: {error}.") from None


def _wrong_type(content_type: str | None, needed: str) -> OperationError:
    given = "The request has no content type" if not content_type else f"The content type is {one_line(content_type)}"
    return _unsupported(f"{given}; it has to be {needed}.")


def _unsupported(message: str) -> OperationError:
    return OperationError(415, "Error.UnsupportedMediaType", message)
