"""Rules for arguments: names, ack ids, data and numbers are checked before anything is encoded."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Final, Literal, cast

from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.protocol.names import (
    MAX_GROUP_LENGTH,
    MAX_METADATA_KEY,
    MAX_METADATA_SIZE,
    MAX_METADATA_VALUE,
    has_group_length,
    is_event_name,
    is_metadata_key,
    is_metadata_value,
)
from limpet_core.text import shown_number

DataType = Literal["text", "json", "binary", "protobuf"]

MAX_ACK_ID: Final = 2**53 - 1
"""Ids are 64-bit, but JavaScript peers and proxies are exact only up to here."""

MAX_GROUP_STATE_SIZE: Final = 8192
"""The largest state of a connection in a group: bytes of its names and values in UTF-8, the limit of metadata."""

MAX_INVOCATION_ID: Final = 128
"""Characters of an invocation id."""

_BYTES: tuple[type[object], ...] = (bytes, bytearray, memoryview)

MAX_TTL: Final = 300
"""The longest time to live of a message, in seconds (openapi)."""


def check_group(group: object) -> None:
    """Raise InvalidType or InvalidValue unless ``group`` is a group name: 1 to 1024 characters, not blank."""
    if not isinstance(group, str):
        raise InvalidType(f"group must be a str, not {type(group).__name__}")
    if not group or group.isspace():
        raise InvalidValue("group must not be empty or blank")
    if not has_group_length(group):
        raise InvalidValue(f"group must have at most {MAX_GROUP_LENGTH} characters")
    if not group.isascii():
        _check_encodable("group", group)


def check_event_name(event: object) -> None:
    """Raise InvalidType or InvalidValue unless ``event`` is an event name."""
    if not isinstance(event, str):
        raise InvalidType(f"event must be a str, not {type(event).__name__}")
    if not is_event_name(event):
        raise InvalidValue(
            f"event must start with a letter and have at most 128 letters, digits, '_', '.' and '-', not {event!r}"
        )


def check_ack_id(ack_id: object) -> None:
    """Raise InvalidType or InvalidValue unless ``ack_id`` can be an ack id: 1 to 2**53 - 1."""
    if isinstance(ack_id, bool) or not isinstance(ack_id, int):
        raise InvalidType(f"ack_id must be an int, not {type(ack_id).__name__}")
    if not 1 <= ack_id <= MAX_ACK_ID:
        raise InvalidValue(f"ack_id must be from 1 to 2**53 - 1, not {shown_number(ack_id)}")


def check_invocation_id(invocation_id: object) -> None:
    """Raise InvalidType or InvalidValue unless ``invocation_id`` can be one: a str of 1 to 128 characters."""
    if not isinstance(invocation_id, str):
        raise InvalidType(f"invocation_id must be a str, not {type(invocation_id).__name__}")
    if not 1 <= len(invocation_id) <= MAX_INVOCATION_ID:
        raise InvalidValue(f"invocation_id must have 1 to {MAX_INVOCATION_ID} characters, not {len(invocation_id)}")
    if not invocation_id.isascii():
        _check_encodable("invocation_id", invocation_id)


def check_data(data: object, data_type: str | None) -> str:
    """Return the data type of ``data``: the given one if it fits, else the natural one.

    A str is ``text``, bytes-like is ``binary``, anything else is ``json``.

    Raises:
        InvalidType: the data is not of the type that ``data_type`` needs.
        InvalidValue: an unknown data type, or JSON null, which the service refuses.
    """
    if isinstance(data, str):
        if not data.isascii():
            _check_encodable("data", data)
        if data_type is None:  # the ordinary case, in a few steps
            return "text"
        natural = "text"
    else:
        natural = "binary" if isinstance(data, _BYTES) else "json"
    if data_type is None:
        data_type = natural
    elif data_type == "text" and natural != "text":
        raise InvalidType(f"data must be a str for data_type 'text', not {type(data).__name__}")
    elif data_type in ("binary", "protobuf") and natural != "binary":
        raise InvalidType(f"data must be bytes for data_type {data_type!r}, not {type(data).__name__}")
    elif data_type not in ("text", "json", "binary", "protobuf"):
        raise InvalidValue(f"data_type must be 'text', 'json', 'binary' or 'protobuf', not {data_type!r}")
    if data_type == "json" and data is None:
        raise InvalidValue("data must not be None: that is JSON null, which the service refuses")
    elif data_type == "json" and isinstance(data, float) and not math.isfinite(data):
        raise InvalidValue(f"data must not be {data!r}: JSON has no such number, and the service refuses null")
    return data_type


def check_size(message: bytes, limit: int, what: str) -> bytes:
    """Return an encoded request; raise InvalidValue, naming ``what``, if it has more than ``limit`` bytes."""
    if len(message) > limit:
        raise InvalidValue(
            f"{what} is too large: {len(message)} bytes as a message, above max_request_size ({limit} bytes)"
        )
    return message


def check_text(name: str, text: object, *, minimum: int = 0, maximum: int | None = None) -> None:
    """Raise InvalidType or InvalidValue, naming ``name``, unless ``text`` is a str with a length in the range."""
    if not isinstance(text, str):
        raise InvalidType(f"{name} must be a str, not {type(text).__name__}")
    if len(text) < minimum:
        raise InvalidValue(f"{name} must not be empty")
    if maximum is not None and len(text) > maximum:
        raise InvalidValue(f"{name} must have at most {maximum} characters")
    _check_encodable(name, text)


def check_metadata(metadata: object) -> dict[str, str] | None:
    """Return ``metadata`` as it is sent: a copy; None where there is nothing to send.

    Raises:
        InvalidType: it is no mapping of str to str.
        InvalidValue: it is beyond the limits of the service (emulator); the message names the limit.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidType(f"metadata must be a dict of str to str, not {type(metadata).__name__}")
    checked: dict[str, str] = {}
    size = 0
    for key, value in cast("Mapping[object, object]", metadata).items():
        if not isinstance(key, str):
            raise InvalidType(f"metadata must have keys of type str, not {type(key).__name__}")
        if not is_metadata_key(key):
            shown = repr(key if len(key) <= MAX_METADATA_KEY else f"{key[:32]}...")
            raise InvalidValue(
                f"metadata must have keys of 1 to {MAX_METADATA_KEY} letters, digits and any of !#$%&'*+-.^_`|~ "
                f"(an HTTP token), not {shown}"
            )
        if not isinstance(value, str):
            raise InvalidType(f"metadata[{key!r}] must be a str, not {type(value).__name__}")
        if not is_metadata_value(value):
            raise InvalidValue(
                f"metadata[{key!r}] must be ASCII and have at most {MAX_METADATA_VALUE} characters"
                + (f", not {len(value)}" if value.isascii() else "")
            )
        checked[str.__str__(key)] = str.__str__(value)
        size += len(key) + len(value)
    if size > MAX_METADATA_SIZE:
        raise InvalidValue(
            f"metadata must have at most {MAX_METADATA_SIZE} characters in all keys and values together, not {size}"
        )
    return checked or None


def whole_ttl(ttl: object) -> int:
    """Return a time to live in the whole seconds of the wire, rounded up: 0.5 would else be 0, which means for ever.

    Raises:
        InvalidType, InvalidValue: it is no number of seconds from 0 to 300 (openapi).
    """
    check_number("ttl", ttl, minimum=0.0, maximum=MAX_TTL)
    return math.ceil(cast(float, ttl))


def check_group_state(state: object) -> dict[str, str]:
    """Return a copy of ``state``, the state of a connection in a group.

    Raises:
        InvalidType: it is no mapping of str to str.
        InvalidValue: it has no form in UTF-8, or more than :data:`MAX_GROUP_STATE_SIZE` bytes of that.
    """
    if not isinstance(state, Mapping):
        raise InvalidType(f"state must be a dict of str to str, not {type(state).__name__}")
    copy: dict[str, str] = {}
    size = 0
    for name, value in cast("Mapping[object, object]", state).items():
        if not isinstance(name, str):
            raise InvalidType(f"state must have names of type str, not {type(name).__name__}")
        shown = f"state[{name[:64]!r}]"
        if not isinstance(value, str):
            raise InvalidType(f"{shown} must be a str, not {type(value).__name__}")
        _check_encodable("a name in state", name)
        _check_encodable(shown, value)
        copy[str.__str__(name)] = str.__str__(value)
        size += len(name.encode()) + len(value.encode())
    if size > MAX_GROUP_STATE_SIZE:
        raise InvalidValue(
            f"state must have at most {MAX_GROUP_STATE_SIZE} bytes of UTF-8 in names and values together, not {size}"
        )
    return copy


def _check_encodable(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{name} cannot be encoded as UTF-8: {error}") from None


def check_number(name: str, value: object, *, minimum: float, maximum: float = math.inf, unit: str = "") -> None:
    """Raise InvalidType or InvalidValue, naming ``name``, unless ``value`` is a number in the range.

    Args:
        unit: what is counted, for the text of the error.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        of = f"number of {unit}" if unit else "number"
        raise InvalidType(f"{name} must be a {of} of type int or float, not {type(value).__name__}")
    if not minimum <= value <= maximum:  # also false for NaN
        limits = f"at least {minimum:g}" if maximum == math.inf else f"from {minimum:g} to {maximum:.12g}"
        raise InvalidValue(f"{name} must be {limits}{unit and ' '}{unit}, not {shown_number(value)}")
    if isinstance(value, int) and value > sys.float_info.max:  # no sum with a time would hold it
        raise InvalidValue(f"{name} is too large: {shown_number(value)}; math.inf is without a limit")


def check_timeout(timeout: object) -> None:
    """Raise InvalidType or InvalidValue unless ``timeout`` is a number of seconds from 0, or None for no limit."""
    if timeout is not None:
        check_number("timeout", timeout, minimum=0.0, unit="seconds")


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> None:
    """Raise InvalidType or InvalidValue, naming ``name``, unless ``value`` is an int in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"{name} must be an int, not {type(value).__name__}")
    if value < minimum or (maximum is not None and value > maximum):
        limits = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise InvalidValue(f"{name} must be {limits}, not {shown_number(value)}")


def check_positive(name: str, value: object, otherwise: str = "") -> None:
    """Raise InvalidType or InvalidValue, naming ``name``, unless ``value`` is a number of seconds above 0.

    Args:
        otherwise: what else is accepted, for the text of the error.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:  # NaN is not, either
        raise InvalidValue(f"{name} must be more than 0 seconds{otherwise}; not {shown_number(value)}")
    check_number(name, value, minimum=0.0)
