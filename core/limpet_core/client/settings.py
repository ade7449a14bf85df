"""Settings from a mapping: of a TOML or JSON file, or of environment variables."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec

from limpet_core.errors import InvalidType, InvalidValue, LocalProtocolError
from limpet_core.text import one_line, short_repr

S = TypeVar("S", bound=msgspec.Struct)

_BOOLS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}

_OTHERS: Final = frozenset(
    {
        "access_key",
        "access_key_file",
        "cluster",
        "connection_string",
        "log_level",
        "negotiate",
        "secondary_access_key",
        "url",
    }
)
"""What Limpet reads from environment variables that is no option: with a prefix, it is passed over."""

_LONGEST_NAME: Final = 100
"""Characters of an unknown name that are compared with those of the options."""

_NESTED: Final = "__"
"""Separates the names in a variable of a nested setting."""


def read_settings(kind: type[S], mapping: Mapping[str, Any], prefix: str) -> S:
    """Return a ``kind`` with the settings in ``mapping``; the rest has its defaults.

    Args:
        kind: a Struct that checks its fields.
        mapping: names and values; a nested Struct is a mapping as well.
        prefix: what the names of environment variables begin with; empty: the mapping is no environment.

    Raises:
        InvalidValue: settings are unknown or cannot be used; the message names each by its key.
        InvalidType: ``mapping`` is no mapping, ``prefix`` or the name of a variable is no str.
    """
    if not isinstance(mapping, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidType(f"mapping must be a mapping, such as a dict or os.environ, not {type(mapping).__name__}")
    if not isinstance(prefix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidType(f"prefix must be a str, not {type(prefix).__name__}")
    for name in mapping if prefix else ():
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - those of os.environb are not
            raise InvalidType(f"the names of variables must be str, as in os.environ, not {type(name).__name__}")
    reader = _Reader()
    settings = reader.read(kind, _nested(mapping, prefix) if prefix else _keyed(mapping, ""), is_text=bool(prefix))
    if settings is None or reader.problems:
        raise InvalidValue(f"these options cannot be used: {'; '.join(reader.problems)}")
    return settings


class _Setting(msgspec.Struct):
    """A value, or a mapping of more settings, and its key for people."""

    key: str
    value: Any


def _keyed(mapping: Mapping[Any, Any], before: str) -> dict[str, _Setting]:
    return {str(name): _Setting(before + one_line(str(name), 100), value) for name, value in mapping.items()}


def _nested(mapping: Mapping[str, Any], prefix: str) -> dict[str, _Setting]:
    """Return the variables with ``prefix``, in lower case; ``A__B`` is ``b`` of ``a``."""
    found: dict[str, _Setting] = {}
    fields: dict[str, dict[str, _Setting]] = {}
    for variable, value in mapping.items():
        if not variable.startswith(prefix):
            continue
        name, nested, field = variable[len(prefix) :].lower().partition(_NESTED)
        if nested:
            fields.setdefault(name, {})[field] = _Setting(one_line(variable, 100), value)
        elif name not in _OTHERS:
            found[name] = _Setting(one_line(variable, 100), value)
    for name, settings in fields.items():
        found.setdefault(name, _Setting(one_line(prefix + name.upper(), 100), settings))
    return found


class _Reader:
    """Collects all problems, so that one error tells of them.

    Attributes:
        problems: what cannot be used, and why.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, kind: type[S], settings: dict[str, _Setting], *, is_text: bool) -> S | None:
        """Return a ``kind`` of those settings that can be used; None where they do not go together."""
        known = {field.name: field.type for field in msgspec.structs.fields(kind)}
        values: dict[str, Any] = {}
        for name, setting in settings.items():
            if name not in known:
                like = difflib.get_close_matches(name[:_LONGEST_NAME], known, 1)
                hint = f"did you mean {like[0]}?" if like else f"there are {', '.join(known)}"
                self.problems.append(f"{setting.key} is unknown: {hint}")
                continue
            try:
                values[name] = self._value(known[name], setting, is_text=is_text)
            except LocalProtocolError as error:
                self.problems.append(f"{setting.key}: {error}")
        try:
            read = kind(**values)
        except LocalProtocolError as error:
            told = len(self.problems)
            for name, value in values.items():
                self._try(kind, settings[name], name, value)
            if len(self.problems) == told:  # each is good, and they do not go together
                self.problems.append(f"{' and '.join(settings[name].key for name in values)}: {error}")
            return None
        return read

    def _try(self, kind: type[msgspec.Struct], setting: _Setting, name: str, value: Any) -> None:
        try:
            kind(**{name: value})
        except LocalProtocolError as error:
            self.problems.append(f"{setting.key}: {error}")

    def _value(self, annotation: Any, setting: _Setting, *, is_text: bool) -> Any:
        """Return the value of a setting, converted from text where it is a variable."""
        value: Any = setting.value
        is_union = get_origin(annotation) in (Union, types.UnionType)
        choices: tuple[Any, ...] = get_args(annotation) if is_union else (annotation,)
        if isinstance(value, str) and value.strip().lower() == "none" and type(None) in choices:
            return None
        (wanted,) = [each for each in choices if each is not type(None)]
        if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
            if not isinstance(value, Mapping):
                if isinstance(value, wanted) or (value is None and type(None) in choices):
                    return value
                names = ", ".join(field.name for field in msgspec.structs.fields(wanted))
                where = f"variables such as {setting.key}{_NESTED}{names.split(',')[0].upper()}" if is_text else names
                raise InvalidValue(f"it must have settings of its own ({where}), not {_shown(value)}")
            inner = cast("dict[str, Any]", value)
            fields = inner if is_text else _keyed(inner, f"{setting.key}.")
            nested = self.read(wanted, fields, is_text=is_text)
            return wanted() if nested is None else nested  # its problems are told by their own keys
        return _converted(wanted, value) if is_text and isinstance(value, str) else value


def _converted(wanted: Any, text: str) -> Any:
    if wanted is bool:
        if text.strip().lower() not in _BOOLS:
            raise InvalidValue(f"it must be true or false, not {_shown(text)}")
        return _BOOLS[text.strip().lower()]
    if wanted is int or wanted is float:
        try:
            return wanted(text)
        except ValueError:
            kind = "a whole number" if wanted is int else "a number"
            raise InvalidValue(f"it must be {kind}, not {_shown(text)}") from None
    assert wanted is str or get_origin(wanted) is Literal
    return text.strip()


def _shown(value: object) -> str:
    return one_line(short_repr(value), 60)
