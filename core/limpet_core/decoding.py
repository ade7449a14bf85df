"""Text with layers of encoding removed: percent, backslash (JSON, Python) and HTML, in UTF-8.

A service may quote a text in any of these encodings. Each byte of a layer knows its place in the original text.
"""

from __future__ import annotations

import html
import re
from array import array
from collections.abc import Callable
from typing import Final

_DEPTH: Final = 2
"""Layers of encoding that are removed, in any order: JSON in JSON, JSON in a query, a query in a query."""

_PERCENT: Final = re.compile(rb"(?:%[89A-Fa-f][0-9A-Fa-f])+|%[0-7][0-9A-Fa-f]")
_BACKSLASH: Final = re.compile(
    rb"(?:\\x[89A-Fa-f]#{1})+|\\x#{2}|\\u[dD][89abAB]#{2}\\u[dD][c-fC-F]#{2}|\\u#{4}|\\U#{8}|\\.".replace(
        b"#", b"[0-9A-Fa-f]"
    ),
    re.DOTALL,
)
_ENTITY: Final = re.compile(rb"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});")
_LETTERS: Final = {b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\b": b"\b", b"\\f": b"\f"}


class Layer:
    """A decoded text.

    Attributes:
        data: the text, in UTF-8.
    """

    __slots__ = ("_ends", "_starts", "data")

    def __init__(self, data: bytes, starts: array[int] | None = None, ends: array[int] | None = None) -> None:
        self.data: bytes = data
        self._starts = starts
        self._ends = ends

    @property
    def starts(self) -> array[int]:
        """For each byte of ``data``, where its code begins in the original text.

        Made when it is asked for: most texts have neither codes nor secrets.
        """
        if self._starts is None:
            self._starts = array("I", range(len(self.data)))
        return self._starts

    @property
    def ends(self) -> array[int]:
        """For each byte of ``data``, where its code ends in the original text."""
        if self._ends is None:
            self._ends = array("I", range(1, len(self.data) + 1))
        return self._ends

    def replaced(self, pattern: re.Pattern[bytes], replacement: Callable[[bytes], bytes]) -> Layer:
        """Return the layer with each match of ``pattern`` replaced by ``replacement`` of its bytes."""
        matches = list(pattern.finditer(self.data))
        if not matches:
            return self
        parts: list[bytes] = []
        starts, ends = array("I"), array("I")
        position = 0
        for found in matches:
            first, last = found.span()
            unit = replacement(found[0])
            parts += (self.data[position:first], unit)
            starts += self.starts[position:first]
            starts += array("I", [self.starts[first]]) * len(unit)
            ends += self.ends[position:first]
            ends += array("I", [self.ends[last - 1]]) * len(unit)
            position = last
        parts.append(self.data[position:])
        return Layer(b"".join(parts), starts + self.starts[position:], ends + self.ends[position:])

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return where the bytes from ``first`` to ``last`` (exclusive) begin and end in the original text."""
        return self.starts[first], self.ends[last - 1]


def _from_percent(unit: bytes) -> bytes:
    return _from_hex(unit.replace(b"%", b""))


def _from_entity(unit: bytes) -> bytes:
    return html.unescape(unit.decode()).encode()


def _from_backslash(unit: bytes) -> bytes:
    kind = unit[:2]
    if len(unit) == 2:
        return _LETTERS.get(unit, unit[1:])
    if kind == b"\\x":
        return _from_hex(unit.replace(b"\\x", b""))
    if len(unit) == 12:  # a surrogate pair
        return bytes.fromhex(unit.replace(b"\\u", b"").decode()).decode("utf-16-be").encode()
    code = int(unit[2:], 16)
    return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else b""


def _from_hex(digits: bytes) -> bytes:
    data = bytes.fromhex(digits.decode())
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()  # each byte is a character
    return data


_ENCODINGS: Final = ((_PERCENT, _from_percent), (_BACKSLASH, _from_backslash), (_ENTITY, _from_entity))


_MARKS: Final = (b"%", b"\\", b"&")
"""One of them is in each code."""


def decoded_layers(data: bytes) -> list[Layer]:
    """Return a text as it is and with up to two layers of encoding removed."""
    layers = latest = [Layer(data)]
    if not any(mark in data for mark in _MARKS):
        return layers
    seen = {data}
    for _ in range(_DEPTH):
        decoded = [layer.replaced(pattern, decode) for layer in latest for pattern, decode in _ENCODINGS]
        latest = [layer for layer in {layer.data: layer for layer in decoded}.values() if layer.data not in seen]
        seen.update(layer.data for layer in latest)
        layers = layers + latest
    return layers
