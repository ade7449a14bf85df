"""Hides secrets in text: the values of token fields, credentials and signed tokens, and the tokens that are known.

All work is done on UTF-8, on the text as it is and with one and two layers of encoding taken off (percent, JSON, HTML):
a service may quote a token in any of these ways. A secret found there is hidden at its place in the text.
"""

from __future__ import annotations

import html
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import unquote_plus

HIDDEN: Final = "***"

_NAME: Final = rb"(?:access|(?:awps[_-]?)?reconnection)[_-]?token|access[_-]?key"
_QUOTE: Final = rb"\\{0,15}[\"'`]"
_FIELD: Final = re.compile(rb"(?:%b)(?:%b)?\s*[=:]>?\s*(%b)?" % (_NAME, _QUOTE, _QUOTE), re.IGNORECASE)
_HEADER: Final = re.compile(rb"authorization(?:%b)?\s*[=:]\s*(?:%b)?(?:basic|bearer)?\s*" % (_QUOTE, _QUOTE), re.I)
_BEARER: Final = re.compile(rb"\bbearer[\s:=]+(?=\S{8})", re.IGNORECASE)
_JWT: Final = re.compile(rb"(?<![A-Za-z0-9])eyJ[\w-]{8,}(?:\.[\w-]*){0,2}")
_WORD: Final = re.compile(rb"\S*")
# Without quotes around it, a value goes on to the next parameter; an entity of HTML is a character of it.
_UNQUOTED: Final = re.compile(rb"(?:[^\s&#<>]|&(?:quot|apos|lt|gt|#\w{1,7});)*")
_BEFORE: Final = re.compile(rb"(%b)[^\s\"'`<>]*\Z" % _QUOTE)
_NEAR: Final = 1024

_PARAMETER: Final = re.compile(_NAME.decode(), re.IGNORECASE)

_DEPTH: Final = 2
"""Layers of encoding that are taken off, in any order: JSON in JSON, JSON in a query, a query in a query."""

_PERCENT: Final = re.compile(rb"(?:%[89A-Fa-f][0-9A-Fa-f])+|%[0-7][0-9A-Fa-f]")
_BACKSLASH: Final = re.compile(
    rb"(?:\\x[89A-Fa-f]#{1})+|\\x#{2}|\\u[dD][89abAB]#{2}\\u[dD][c-fC-F]#{2}|\\u#{4}|\\U#{8}|\\.".replace(
        b"#", b"[0-9A-Fa-f]"
    ),
    re.DOTALL,
)
_ENTITY: Final = re.compile(rb"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});")
_LETTERS: Final = {b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\b": b"\b", b"\\f": b"\f"}

# Blanks of all kinds: what quotes others may fold them, and a plus sign in a query is one.
_BLANKS: Final = re.compile(
    rb"(?:[\t-\r\x1c-\x20+]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)+"
)

_GRAM: Final = 8
"""Bytes of a known secret by which it is found, wherever it was cut; what has twice as many in a row is hidden."""

_SHORTEST: Final = 4
"""Bytes of a secret worth hiding by itself: shorter ones would be found in every other word."""

_TAIL: Final = 6
"""Bytes of the beginning of a secret that are hidden where the text is cut."""

_MAX_TOKEN: Final = 16 * 1024
"""Characters of a token that are kept; a longer one is refused."""

_CUT: Final = re.compile(rb"\.\.\.\(\d+characters\)")


class _Layer:
    """Text with some encoding taken off, and where each of its bytes comes from."""

    __slots__ = ("data", "ends", "starts")

    def __init__(self, data: bytes, starts: array[int] | None = None, ends: array[int] | None = None) -> None:
        self.data = data
        self.starts: array[int] = starts if starts is not None else array("I", range(len(data)))
        self.ends: array[int] = ends if ends is not None else array("I", range(1, len(data) + 1))

    def replaced(self, pattern: re.Pattern[bytes], replacement: Callable[[bytes], bytes]) -> _Layer:
        parts: list[bytes] = []
        starts, ends = array("I"), array("I")
        position = 0
        for found in pattern.finditer(self.data):
            first, last = found.span()
            unit = replacement(found[0])
            parts += (self.data[position:first], unit)
            starts += self.starts[position:first]
            starts += array("I", [self.starts[first]]) * len(unit)
            ends += self.ends[position:first]
            ends += array("I", [self.ends[last - 1]]) * len(unit)
            position = last
        if not parts:
            return self
        parts.append(self.data[position:])
        return _Layer(b"".join(parts), starts + self.starts[position:], ends + self.ends[position:])

    def span(self, first: int, last: int) -> tuple[int, int]:
        return self.starts[first], self.ends[last - 1]


def _nothing(unit: bytes) -> bytes:
    return b""


def _from_percent(unit: bytes) -> bytes:
    return _from_hex(unit.replace(b"%", b""))


def _from_entity(unit: bytes) -> bytes:
    return html.unescape(unit.decode()).encode()


def _from_backslash(unit: bytes) -> bytes:
    """What an escape of JSON, or of a Python repr, stands for."""
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
    """Bytes, which are UTF-8; else each is a character."""
    data = bytes.fromhex(digits.decode())
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data


_ENCODINGS: Final = ((_PERCENT, _from_percent), (_BACKSLASH, _from_backslash), (_ENTITY, _from_entity))


def _layers(data: bytes) -> list[_Layer]:
    """The text as it is, and with encodings taken off."""
    layers = latest = [_Layer(data)]
    seen = {data}
    for _ in range(_DEPTH):
        decoded = [layer.replaced(pattern, decode) for layer in latest for pattern, decode in _ENCODINGS]
        latest = [layer for layer in {layer.data: layer for layer in decoded}.values() if layer.data not in seen]
        seen.update(layer.data for layer in latest)
        layers = layers + latest
    return layers


# ---- By pattern: a field or header before them, or the form of a signed token


def _by_pattern(data: bytes) -> Iterator[tuple[int, int]]:
    """The places of values of token fields, of credentials, and of signed tokens, whole or cut short."""
    position = 0
    while (field := _FIELD.search(data, position)) is not None:
        end = _end_of_value(data, field)
        yield field.end(), end
        position = max(end, field.end())
    for pattern in (_HEADER, _BEARER):
        position = 0
        while (header := pattern.search(data, position)) is not None:
            word = _WORD.match(data, header.end())
            assert word is not None
            yield word.span()
            position = word.end()
    for token in _JWT.finditer(data):
        yield token.span()


def _end_of_value(data: bytes, field: re.Match[bytes]) -> int:
    quote: bytes | None = field[1]
    if quote is None:
        around = _BEFORE.search(data, max(0, field.start() - _NEAR), field.start())
        unquoted = _UNQUOTED.match(data, field.end())
        assert unquoted is not None
        if around is None:
            return unquoted.end()
        # Inside of quotes a blank may belong to the value. So may the same quote, escaped.
        end = _closing(data, around[1], field.end())
        separator = re.compile(rb"[&#]").search(data, field.end(), end)
        return separator.start() if separator is not None else end
    return _closing(data, quote, field.end())


def _closing(data: bytes, quote: bytes, start: int) -> int:
    """Where a quotation ends: at the same quote behind as many backslashes; else nowhere, and all is hidden."""
    closing = re.compile(rb"(?<!\\)" + re.escape(quote)).search(data, start)
    return closing.start() if closing is not None else len(data)


# ---- By value: the tokens that a session knows


class Secrets:
    """The tokens that a session knows: those of its last two URLs, and the last two that it was given.

    Learning is cheap: the forms of a token are worked out at the first search. :meth:`forms` is safe in any thread.
    """

    __slots__ = ("_found", "_given", "_urls")

    def __init__(self, *values: str) -> None:
        self._urls: tuple[str, ...] = ()
        self._given: tuple[str, ...] = values
        self._found: tuple[tuple[str, ...], tuple[str, ...], tuple[bytes, ...]] | None = None

    def learn_url(self, url: str) -> None:
        """Take in the tokens in the query of a URL."""
        self._urls = _remember(self._urls, url)

    def learn(self, token: str) -> None:
        """Take in a token."""
        self._given = _remember(self._given, token[:_MAX_TOKEN])

    def forms(self) -> tuple[bytes, ...]:
        """The tokens in all encodings to search for, without blanks."""
        urls, given, found = self._urls, self._given, self._found
        if found is None or found[0] is not urls or found[1] is not given:
            tokens = [*(token for url in urls for token in _token_parameters(url)), *given]
            found = urls, given, tuple(dict.fromkeys(form for token in tokens for form in _forms(token)))
            self._found = found
        return found[2]


def _remember(known: tuple[str, ...], value: str) -> tuple[str, ...]:
    return known if known[-1:] == (value,) else (*(other for other in known if other != value), value)[-2:]


def _forms(secret: str) -> tuple[bytes, ...]:
    """A secret as it is and with encodings taken off, each without blanks."""
    layers = _layers(secret.encode("utf-8", "surrogatepass"))
    forms = dict.fromkeys(_BLANKS.sub(b"", layer.data) for layer in layers)
    return tuple(form for form in forms if len(form) >= _SHORTEST)


def _by_value(layer: _Layer, forms: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """The places of known secrets, or of long parts of them."""
    bare = layer.replaced(_BLANKS, _nothing)
    data = bare.data
    grams = {data[at : at + _GRAM] for at in range(len(data) - _GRAM + 1)}
    edges = [len(data), *(note.start() for note in _CUT.finditer(data))]
    for form in forms:
        for first, last in _runs(data, grams, form):
            yield bare.span(first, last)
        for edge in edges:
            for size in range(min(edge, 2 * _GRAM, len(form)), _TAIL - 1, -1):
                if data.endswith(form[:size], 0, edge):
                    yield bare.span(edge - size, edge)
                    break


def _runs(data: bytes, grams: set[bytes], form: bytes) -> Iterator[tuple[int, int]]:
    if len(form) < 2 * _GRAM - 1:
        at = data.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = data.find(form, at + 1)
        return
    # A part of so many bytes holds one of every eighth gram whole: mostly there is nothing to do.
    if not any(form[at : at + _GRAM] in grams for at in range(0, len(form) - _GRAM + 1, _GRAM)):
        return
    of_form = {form[at : at + _GRAM] for at in range(len(form) - _GRAM + 1)}
    first = None
    for at in range(len(data) - _GRAM + 2):
        if data[at : at + _GRAM] in of_form:
            first = at if first is None else first
        elif first is not None:
            if at - first >= _GRAM:
                yield first, at + _GRAM - 1
            first = None


# ---- Hiding


def redact(text: str) -> str:
    """``text`` with the values of access and reconnection tokens replaced by ``***``, for logs.

    Knows where tokens travel: the query of a URL, the fields of a JSON message, a header with credentials; quoted,
    percent-encoded and escaped as it may be. What looks like a signed token (JWT) is hidden wherever it is. A value
    whose end cannot be told is hidden to the end of the text.
    """
    return hide(text, None)


def hide(text: str, secrets: Secrets | None, end: int | None = None) -> str:
    """Return ``text`` as :func:`redact` does, with known secrets hidden as well.

    Args:
        end: leave out the text from this character on.
    """
    data = text.encode("utf-8", "surrogatepass")
    forms = secrets.forms() if secrets is not None else ()
    spans: list[tuple[int, int]] = []
    for layer in _layers(data):
        spans += [layer.span(*found) for found in _by_pattern(layer.data) if found[0] < found[1]]
        if forms:
            spans += _by_value(layer, forms)
    shown = len(data) if end is None else len(text[:end].encode("utf-8", "surrogatepass"))
    parts: list[bytes] = []
    position = 0
    for start, last in sorted(spans):
        first = _character_border(data, start)
        if first >= shown:
            break
        if first > position or not parts:
            parts += (data[position:first], HIDDEN.encode())
        position = max(position, _character_border(data, last, step=1))
    return b"".join([*parts, data[position:shown]]).decode("utf-8", "surrogatepass")


def _character_border(data: bytes, at: int, step: int = -1) -> int:
    """The nearest border between characters at or before ``at`` (with ``step=1``: at or after it).

    A character is hidden whole: the rest of its bytes would still tell something of it.
    """
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += step
    return at


def redact_url(url: str) -> str:
    """``url`` with the values of its token parameters replaced by ``***``, read as a server would read them."""
    head, mark, fragment = url.partition("#")
    path, question, query = head.partition("?")
    if question:
        path = f"{path}?{'&'.join(map(_without_token, query.split('&')))}"
    if mark:
        path = f"{path}#{'&'.join(map(_without_token, fragment.split('&')))}"
    return redact(path)


def _without_token(parameter: str) -> str:
    at = _value_at(parameter)
    return parameter if at is None else parameter[:at] + HIDDEN


def _token_parameters(url: str) -> list[str]:
    _, _, query = url.partition("?")
    parameters = query.replace("#", "&").split("&")
    return [parameter[at:] for parameter in parameters if (at := _value_at(parameter)) is not None]


def _value_at(parameter: str) -> int | None:
    """Where the value of a token begins; some servers take a semicolon between parameters, too."""
    position = 0
    for piece in parameter.split(";"):
        name, equals, _ = piece.partition("=")
        if equals and _PARAMETER.fullmatch(unquote_plus(name).strip()):
            return position + len(name) + 1
        position += len(piece) + 1
    return None
