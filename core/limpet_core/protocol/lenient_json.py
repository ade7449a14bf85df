"""Valid JSON that a decoder cannot hold, and data that JSON cannot hold (RFC 8259).

The fast decoder refuses halves of surrogate pairs, numbers beyond floats and deep nesting, all of which RFC 8259 allows
a peer to send; the encoder writes null for nan. These functions are slower, and only called where those two fail.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Final, NoReturn, cast

import msgspec

# Other escapes and whole pairs are matched first, in one go, and stay as they are: only halves are left over, and those
# in a row are one match.
_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_HALVES = re.compile(rb"((?:(?:\\[^u]|%b%b)[^\\]*+)++)|(?:%b(?!%b)|%b)++" % (_HIGH, _LOW, _HIGH, _LOW, _LOW))
_HALF: Final = len(rb"\ud800")
_REPLACEMENT: Final = b"\\ufffd"

# Brackets outside of strings; a run of the same kind is one token, so that a nest of nothing but brackets is two.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]+|[\]}]+', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b'[{]}"')
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one deeper, one less deep
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_STRINGS = re.compile(rb'"[^"]*"')

_SHALLOW: Final = 8


def replace_half_pairs(text: bytes, replacement: bytes = _REPLACEMENT) -> bytes:
    """Put U+FFFD in place of every escaped half of a surrogate pair.

    Args:
        text: JSON.
        replacement: another escape to put there.
    """
    return _HALVES.sub(lambda found: found[1] or replacement * (len(found[0]) // _HALF), text)


def read_value(text: bytes) -> object:
    """Decode JSON of any numbers and strings: U+FFFD stands for halves of surrogate pairs, inf for what is beyond
    floats or has more digits than Python converts; of a repeated key the last one counts.

    Raises:
        ValueError: it is not UTF-8, or no JSON.
        RecursionError: it is nested too deeply.
    """
    return _decode(str(replace_half_pairs(text), "utf-8"))


def read_object(text: bytes) -> dict[str, Any]:
    """Decode a JSON object as :func:`read_value` does, and raise the same; ValueError also for any other value."""
    value = read_value(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return cast("dict[str, Any]", value)


def without_deep_values(text: bytes) -> bytes:
    """Put null in place of deeply nested values, so that ids and names, which are not nested, can be read."""
    parts: list[bytes] = []
    depth = kept = 0
    for token in _TOKENS.finditer(text):
        first = token[0][0]
        if first == 0x22:  # a string
            continue
        start, end = token.span()
        before, depth = depth, depth + (end - start if first in b"[{" else start - end)
        if before <= _SHALLOW < depth:
            parts += [text[kept : start + _SHALLOW - before], b"null"]
            kept = len(text)
        elif depth <= _SHALLOW < before:
            kept = end - (_SHALLOW - depth)
    return b"".join([*parts, text[kept:]])


def is_deep(text: bytes, limit: int) -> bool:
    """Tell whether JSON is nested more than ``limit`` deep.

    Of a text that is no JSON it may tell either, but not that one of more than ``2 * limit`` bytes is shallow which is
    deep before its fault.
    """
    # A text without brackets but the first one is the most common, and found out by the fastest look.
    if len(text) <= 2 * limit or (text.find(b"[") < 0 and text.find(b"{", min(limit, 1)) < 0):
        return False
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    if b"\\" in text:
        text = _ESCAPED.sub(b"", text)
    # Two quotes in a row are a string without brackets, or the end and the beginning of two strings.
    brackets = text.translate(_STEPS, _NO_BRACKETS).replace(b'""', b"")
    return max(accumulate(array("b", _STRINGS.sub(b"", brackets))), default=0) > limit


may_hold_null: Callable[[bytes], object] = re.compile(b"null").search
"""Tell whether JSON may hold null, which the encoder writes for nan and inf; the fastest search for it."""


def find_non_finite(data: object) -> tuple[str, float] | None:
    """Find a nan or inf in ``data``, of any types that the encoder takes.

    Returns:
        Where it is, as Python writes it (``data['prices'][0]``), and the number; None: all is well.
    """
    try:
        packed = msgspec.msgpack.encode(data)
    except (OverflowError, ValueError, TypeError):
        pass  # there are things that only JSON can hold, as integers of any size
    else:
        # How MessagePack begins nan and inf, and very large numbers; text cannot hold these bytes.
        if b"\xcb\x7f" not in packed and b"\xcb\xff" not in packed:
            return None
    found: list[tuple[str, object]] = [("data", msgspec.to_builtins(data, enc_hook=_skip_raw))]
    while found:
        path, value = found.pop()
        if isinstance(value, float):
            if value - value != 0:
                return path, value
        elif isinstance(value, dict):
            items = cast("dict[object, object]", value).items()
            found += reversed([(f"{path}[{key!r}]", item) for key, item in items])
        elif isinstance(value, list | tuple):
            elements = cast("list[object]", value)
            found += reversed([(f"{path}[{index}]", item) for index, item in enumerate(elements)])
    return None


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python converts no more than 4300 digits by default, since that takes so long
        return float(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _skip_raw(_: object) -> None:
    """Put None in place of msgspec.Raw, which the encoder copies as it is."""


_decode = json.JSONDecoder(parse_int=_integer, parse_constant=_no_constant).decode
