"""Redaction of secrets in text: values of token fields, credentials, signed tokens, and the tokens a session knows.

The search runs on UTF-8, on the text as it is and with one and two layers of encoding removed (percent, JSON, HTML). A
secret found in a decoded layer is hidden at its place in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote_plus

from limpet_core.decoding import Layer, decoded_layers

HIDDEN: Final = "***"

_NAME: Final = rb"(?:access|(?:awps[_-]?)?reconnection)[_-]?token|access[_-]?key"
_QUOTE: Final = rb"\\{0,15}[\"'`]"
_FIELD: Final = re.compile(rb"(?:%b)(?:%b)?\s*[=:]>?\s*(%b)?" % (_NAME, _QUOTE, _QUOTE), re.IGNORECASE)
_HEADER: Final = re.compile(rb"authorization(?:%b)?\s*[=:]\s*(?:%b)?(?:basic|bearer)?\s*" % (_QUOTE, _QUOTE), re.I)
_BEARER: Final = re.compile(rb"\bbearer[\s:=]+(?=\S{8})", re.IGNORECASE)
_JWT: Final = re.compile(rb"(?<![A-Za-z0-9])eyJ[\w-]{8,}(?:\.[\w-]*){0,2}")
_WORD: Final = re.compile(rb"\S*")
# A value without quotes ends at the next parameter; an HTML entity is one of its characters.
_UNQUOTED: Final = re.compile(rb"(?:[^\s&#<>]|&(?:quot|apos|lt|gt|#\w{1,7});)*")
_BEFORE: Final = re.compile(rb"(%b)[^\s\"'`<>]*\Z" % _QUOTE)
_NEAR: Final = 1024

_PARAMETER: Final = re.compile(_NAME.decode(), re.IGNORECASE)

# Blanks of all kinds: a quotation may fold them, and a plus sign in a query is one.
_BLANKS: Final = re.compile(
    rb"(?:[\t-\r\x1c-\x20+]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)+"
)

_GRAM: Final = 8
"""Bytes of a known secret by which it is found, wherever it was cut; a part of twice this size is always hidden."""

_SHORTEST: Final = 4
"""Bytes of the shortest secret that is searched for: shorter ones would be found in every other word."""

_SHORTEST_MATCH: Final = 11
"""Bytes of the shortest text with a secret that is found by pattern: ``accesskey=x``, or a part of a signed token."""

_TAIL: Final = 6
"""Bytes of the shortest beginning of a secret that is hidden where the text is cut."""

_MAX_TOKEN: Final = 16 * 1024
"""Characters of a token that are kept; a longer one is refused."""

_ORDINARY: Final = re.compile(r"[A-Za-z0-9_ .,;()/-]*")
"""Text without a character that encodes anything, or that stands between a name and a value."""

_SUSPECT: Final = re.compile("eyJ|bearer", re.IGNORECASE)
"""What such a text must hold if it has a secret that is found by pattern."""

_CUT: Final = re.compile(rb"\.\.\.\(\d+characters\)")
"""The note of :func:`~limpet_core.text.shorten`, without blanks."""


# ---- Secrets found by pattern: behind a field or header, or in the form of a signed token


def _by_pattern(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the spans of values of token fields, of credentials and of signed tokens, whole or cut short."""
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
        # Inside quotes a blank may belong to the value, and so may the same quote if it is escaped.
        end = _closing(data, around[1], field.end())
        separator = re.compile(rb"[&#]").search(data, field.end(), end)
        return separator.start() if separator is not None else end
    return _closing(data, quote, field.end())


def _closing(data: bytes, quote: bytes, start: int) -> int:
    # A quotation ends at the same quote behind as many backslashes. Without one, all the rest is hidden.
    closing = re.compile(rb"(?<!\\)" + re.escape(quote)).search(data, start)
    return closing.start() if closing is not None else len(data)


# ---- Secrets found by value: the tokens that a session knows


class Secrets:
    """The secrets that a session knows: those it was made with, the tokens of its last two URLs, and the last two
    tokens that were learned by themselves.

    To learn a token is cheap: its encodings are removed at the first search. :meth:`forms` is safe in any thread.
    """

    __slots__ = ("_fixed", "_found", "_given", "_urls")

    def __init__(self, *values: str) -> None:
        self._urls: tuple[str, ...] = ()
        self._fixed: tuple[str, ...] = values
        self._given: tuple[str, ...] = ()
        self._found: tuple[tuple[str, ...], tuple[str, ...], tuple[bytes, ...]] | None = None

    def learn_url(self, url: str) -> None:
        """Add the tokens in the query of ``url``."""
        self._urls = _remember(self._urls, url)

    def learn(self, token: str) -> None:
        """Add ``token``."""
        self._given = _remember(self._given, token[:_MAX_TOKEN])

    def forms(self) -> tuple[bytes, ...]:
        """Return the byte strings to search for: the tokens with and without their encodings, without blanks."""
        urls, given, found = self._urls, self._given, self._found
        if found is None or found[0] is not urls or found[1] is not given:
            tokens = [*(token for url in urls for token in _token_parameters(url)), *given, *self._fixed]
            found = urls, given, tuple(dict.fromkeys(form for token in tokens for form in _forms(token)))
            self._found = found
        return found[2]


def _remember(known: tuple[str, ...], value: str) -> tuple[str, ...]:
    return known if known[-1:] == (value,) else (*(other for other in known if other != value), value)[-2:]


def _forms(secret: str) -> tuple[bytes, ...]:
    layers = decoded_layers(secret.encode("utf-8", "surrogatepass"))
    forms = dict.fromkeys(_BLANKS.sub(b"", layer.data) for layer in layers)
    return tuple(form for form in forms if len(form) >= _SHORTEST)


def _by_value(layer: Layer, forms: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Yield the spans of known secrets and of long parts of them."""
    bare = layer.replaced(_BLANKS, lambda _: b"")
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
    # A part that is long enough contains one of every eighth gram whole. Most texts contain none, and are done here.
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


# ---- Redaction


def redact(text: str) -> str:
    """Return ``text`` with the values of access and reconnection tokens replaced by ``***``, for logs.

    Tokens are recognized in the query of a URL, in the fields of a JSON message and in a header with credentials, also
    if these are quoted, percent-encoded or escaped. A signed token (JWT) is recognized anywhere by its form. A value
    without a recognizable end is hidden to the end of the text.
    """
    return hide(text, None)


def hide(text: str, secrets: Secrets | None, end: int | None = None) -> str:
    """Return ``text`` as :func:`redact` does, with known secrets hidden as well.

    Args:
        secrets: the known secrets, if there are any.
        end: leave out the text from this character on.
    """
    if secrets is None and _ORDINARY.fullmatch(text) and not _SUSPECT.search(text):
        return text[:end]  # such as a connection id
    data = text.encode("utf-8", "surrogatepass")
    forms = secrets.forms() if secrets is not None else ()
    if len(data) < _SHORTEST_MATCH and not forms and end is None:
        return text  # as most names are
    spans: list[tuple[int, int]] = []
    for layer in decoded_layers(data):
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
    # A character is hidden whole: the rest of its bytes would give a part of it away.
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += step
    return at


def redact_url(url: str) -> str:
    """Return ``url`` with the values of its token parameters replaced by ``***``, parsed as by a server."""
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
    position = 0
    # Some servers accept semicolons between parameters.
    for piece in parameter.split(";"):
        name, equals, _ = piece.partition("=")
        if equals and _PARAMETER.fullmatch(unquote_plus(name).strip()):
            return position + len(name) + 1
        position += len(piece) + 1
    return None
