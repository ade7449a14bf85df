"""Rules for arguments: names, ack ids, data and numbers are checked before anything is encoded."""

from __future__ import annotations

import math
from typing import Final, Literal

from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.protocol.names import MAX_GROUP_LENGTH, has_group_length, is_event_name

DataType = Literal["text", "json", "binary", "protobuf"]

MAX_ACK_ID: Final = 2**53 - 1
"""Ids are 64-bit, but JavaScript peers and proxies are exact only up to here."""


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
        raise InvalidValue(f"ack_id must be from 1 to 2**53 - 1, not {ack_id}")


def check_data(data: object, data_type: str | None) -> str:
    """Return the data type of ``data``: the given one if it fits, else the natural one.

    A str is ``text``, bytes-like is ``binary``, anything else is ``json``.

    Raises:
        InvalidType: the data is not of the type that ``data_type`` needs.
        InvalidValue: an unknown data type, or JSON null, which the service refuses.
    """
    natural = "text" if isinstance(data, str) else "binary" if _is_bytes(data) else "json"
    if data_type is None:
        data_type = natural
    elif data_type == "text" and natural != "text":
        raise InvalidType(f"data must be a str for data_type 'text', not {type(data).__name__}")
    elif data_type in ("binary", "protobuf") and natural != "binary":
        raise InvalidType(f"data must be bytes for data_type {data_type!r}, not {type(data).__name__}")
    elif data_type not in ("text", "json", "binary", "protobuf"):
        raise InvalidValue(f"data_type must be 'text', 'json', 'binary' or 'protobuf', not {data_type!r}")
    if isinstance(data, str):
        if not data.isascii():
            _check_encodable("data", data)
    elif data_type == "json" and data is None:
        raise InvalidValue("data must not be None: that is JSON null, which the service refuses")
    elif data_type == "json" and isinstance(data, float) and not math.isfinite(data):
        raise InvalidValue(f"data must not be {data!r}: JSON has no such number, and the service refuses null")
    return data_type


def _is_bytes(data: object) -> bool:
    return isinstance(data, bytes | bytearray | memoryview)


def _check_encodable(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{name} cannot be encoded as UTF-8: {error}") from None


def check_number(name: str, value: object, *, minimum: float, maximum: float = math.inf) -> None:
    """Raise InvalidType or InvalidValue, naming ``name``, unless ``value`` is a number in the range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidType(f"{name} must be a number of type int or float, not {type(value).__name__}")
    if not minimum <= value <= maximum:  # also false for NaN
        limits = f"at least {minimum:g}" if maximum == math.inf else f"from {minimum:g} to {maximum:g}"
        raise InvalidValue(f"{name} must be {limits}, not {value!r}")


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> None:
    """Raise InvalidType or InvalidValue, naming ``name``, unless ``value`` is an int in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"{name} must be an int, not {type(value).__name__}")
    if value < minimum or (maximum is not None and value > maximum):
        limits = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise InvalidValue(f"{name} must be {limits}, not {value}")


def check_positive(name: str, value: object, otherwise: str = "") -> None:
    """Raise InvalidType or InvalidValue, naming ``name``, unless ``value`` is a number of seconds above 0.

    Args:
        otherwise: what else is accepted, for the text of the error.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:  # NaN is not, either
        raise InvalidValue(f"{name} must be more than 0 seconds{otherwise}; not {value!r}")
    check_number(name, value, minimum=0.0)
