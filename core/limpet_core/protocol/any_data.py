"""Data of the type ``protobuf``: a ``google.protobuf.Any``, which names the type of the message that it holds."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self, TypeVar

from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.text import one_line


class ProtobufMessage(Protocol):
    """A message of Google's ``protobuf``, of generated code."""

    DESCRIPTOR: ClassVar[Any]

    @classmethod
    def FromString(cls, s: bytes, /) -> Self:
        """Decode a message."""
        ...


MessageType = TypeVar("MessageType", bound=ProtobufMessage)


def unpack(data: bytes, message_type: type[MessageType]) -> MessageType:
    """Return the protobuf message in ``data``, which was received with the data type ``protobuf``.

    Args:
        data: the bytes of a ``google.protobuf.Any``.
        message_type: a class of generated code, the type that is expected.

    Raises:
        InvalidType: ``data`` is no bytes, or ``message_type`` no class of protobuf messages.
        InvalidValue: ``data`` holds a message of another type, or none.
        ImportError: the package ``protobuf`` is not installed.
    """
    from google.protobuf import any_pb2
    from google.protobuf.message import DecodeError, Message

    if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidType(f"data must be bytes, not {type(data).__name__}")
    if not (isinstance(message_type, type) and issubclass(message_type, Message)):  # pyright: ignore
        raise InvalidType(f"message_type must be a class of protobuf messages, not {message_type!r}")
    expected = message_type.DESCRIPTOR.full_name
    try:
        packed = any_pb2.Any.FromString(data)
        if packed.Is(message_type.DESCRIPTOR):
            return message_type.FromString(packed.value)
    except (DecodeError, UnicodeDecodeError) as error:  # this one is of the parser in Python
        raise InvalidValue(f"data holds no {expected} that can be read: {one_line(str(error))}") from None
    raise InvalidValue(f"data holds a message of type {one_line(packed.TypeName()) or '(none)'}, not {expected}")


def unpack_message(data: Any, data_type: str, message_type: type[MessageType]) -> MessageType:
    """Return what :func:`unpack` returns for the data of a received message; InvalidType for any other data type."""
    if data_type != "protobuf":
        raise InvalidType(f"the message has data of type {data_type}, and no protobuf message")
    return unpack(data, message_type)
