"""Typed data: what a message carries, as an object of the application's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

import msgspec

from limpet_core.errors import InvalidData, InvalidType
from limpet_core.text import one_line, reason_of, shown_fields, without_secrets

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    DataT = TypeVarWithDefault("DataT", default=Any, covariant=True)
    """The type of the data; Any, unless the application asks for a type."""
else:
    DataT = TypeVar("DataT", covariant=True)

T = TypeVar("T")

NO_DATA: Final[Any] = None
"""The default of data, whatever its type."""

_MOST_PROBLEMS: Final = 5
"""Fields of a model that an error names."""


class Envelope(Protocol):
    """What has data: a message, a fragment of a stream, a reply."""

    @property
    def data(self) -> Any:
        """The data as it came."""
        ...

    @property
    def data_type(self) -> str | None:
        """The kind of the data; None: there is none."""
        ...


class WithData(Generic[DataT]):
    """A base of the structs that carry data: a short ``repr``, and :meth:`decode`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return shown_struct(cast("msgspec.Struct", self))

    def decode(self, type: type[T]) -> T:
        """Return the data as ``type``: a msgspec Struct, a dataclass, a pydantic model, or such as ``list[int]``.

        Raises:
            InvalidData: the data does not fit; the error names the field.
        """
        return decode_data(cast("Envelope", self), type)


def check_type(expected: Any) -> None:
    """Raise InvalidType unless data can be decoded into ``expected``."""
    try:
        msgspec.json.Decoder(expected, dec_hook=_decode_other)
        known = msgspec.inspect.type_info(expected)
    except Exception as error:  # noqa: BLE001 - whatever a wrong type makes of it
        raise InvalidType(f"type cannot be decoded: {reason_of(error)}") from None
    if isinstance(known, msgspec.inspect.CustomType) and not _is_model(expected):
        raise InvalidType(
            "type must be a msgspec Struct, a dataclass, a pydantic model or a type of these and of Python's own, such "
            f"as list[int], not {expected!r}"
        )


def decode_data(envelope: Envelope, expected: type[T]) -> T:
    """Return the data of ``envelope`` as ``expected``.

    Raises:
        InvalidData: it does not fit; the error has the envelope.
    """
    try:
        return msgspec.convert(envelope.data, expected, str_keys=True, dec_hook=_decode_other)
    except Exception as error:  # also what the application's own checks raise
        reason = str(error) if isinstance(error, msgspec.ValidationError) else reason_of(error)
        if envelope.data_type != "json":
            kind = "no data" if envelope.data_type is None else f"data of type {envelope.data_type}, not json"
            reason = f"{reason}; it has {kind}"
        raise InvalidData(envelope, expected, one_line(without_secrets(reason))) from error


def shown_struct(struct: msgspec.Struct) -> str:
    """Return the ``repr`` of a Struct: short, whatever its data is, without fields that have their default."""
    fields = msgspec.structs.fields(type(struct))
    defaults = {field.name: field.default for field in fields}
    return shown_fields(struct, (field.name for field in fields), defaults)


def _is_model(expected: Any) -> bool:
    return callable(getattr(expected, "model_validate", None))


def _decode_other(expected: type[Any], data: Any) -> Any:
    """Decode what msgspec does not know: pydantic's models, which are recognised by their method."""
    if not _is_model(expected):
        raise TypeError(f"{expected!r} is no type that can be decoded")
    try:
        return expected.model_validate(data)
    except ValueError as error:
        raise ValueError(_problems(error) or reason_of(error)) from error


def _problems(error: ValueError) -> str:
    """Return the fields that a model does not take and why, without the values."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return ""
    found: Any = errors()
    lines = [f"{each['msg']} - at `{'.'.join(map(str, each['loc'])) or '$'}`" for each in found[:_MOST_PROBLEMS]]
    if len(found) > _MOST_PROBLEMS:
        lines.append(f"and {len(found) - _MOST_PROBLEMS} more")
    return "; ".join(lines)
