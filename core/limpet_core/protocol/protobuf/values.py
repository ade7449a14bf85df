"""Payloads in the protobuf subprotocols: from a value to the MessageData of the wire."""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, EncodeError, Message

from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.protocol.json_requests import encode_json
from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import MessageData
from limpet_core.protocol.rules import check_data


def message_data(data: Any, data_type: str | None) -> MessageData:
    """Return the MessageData of a request.

    Args:
        data: as for the JSON subprotocols, or a protobuf message: it is packed into an Any, unless it is one.
        data_type: overrides the natural type of ``data``, or None.

    Raises:
        InvalidType, InvalidValue: the message names the argument.
    """
    if isinstance(data, Message):
        if data_type not in (None, "protobuf"):
            raise InvalidType(f"data is a protobuf message: data_type must be 'protobuf' or None, not {data_type!r}")
        return MessageData(protobuf_data=_packed(data))
    data_type = check_data(data, data_type)
    if data_type == "text":
        return MessageData(text_data=data)
    if data_type == "json":
        return MessageData(json_data=encode_json(data).decode())
    if data_type == "binary":
        return MessageData(binary_data=bytes(data))
    try:
        return MessageData(protobuf_data=any_pb2.Any.FromString(bytes(data)))
    except (DecodeError, UnicodeDecodeError):  # this one is of the parser in Python
        raise InvalidValue("data must be a protobuf message, or the bytes of a google.protobuf.Any") from None


def _packed(message: Message) -> any_pb2.Any:
    if isinstance(message, any_pb2.Any):
        return message
    packed = any_pb2.Any()
    try:
        packed.Pack(message)
    except EncodeError as error:
        raise InvalidValue(f"data cannot be encoded: {error}") from None
    return packed
