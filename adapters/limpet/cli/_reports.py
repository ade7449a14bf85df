"""What the commands of a client print: names, JSON, and news of the connection."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, cast

import click
import msgspec

from limpet import Disconnected, InvalidValue, MessagesMissed, Recovered, Recovering, RejoinGroupFailed
from limpet_core.protocol.json_requests import encode_json
from limpet_core.text import one_line

# A name that cannot be taken for anything else in a line: no space, colon or quotation mark.
_PLAIN = re.compile(r"\w[\w.@+/~-]*")

EVENTS: Final[tuple[type[Any], ...]] = (Recovering, Recovered, Disconnected, MessagesMissed, RejoinGroupFailed)
"""What :func:`report` knows."""


def name_of(name: str) -> str:
    """Return a name as it is, or as a JSON string if it could be taken for more than a name."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def as_json_line(message: Any) -> str:
    """Return a message, event or value as one line of JSON."""
    try:
        return encode_json(message).decode()
    except InvalidValue:
        # A number beyond floats was decoded as inf: write such a number, where the encoder would write null.
        return msgspec.json.encode(_with_large_numbers(msgspec.to_builtins(message))).decode()


def data_as_text(data: Any) -> str:
    """Return the data of a message as text for people."""
    if isinstance(data, str):
        return data
    return repr(data) if isinstance(data, bytes) else as_json_line(data)


def _with_large_numbers(value: object) -> object:
    """Return a value with each infinity replaced by a JSON number beyond floats."""
    if isinstance(value, dict):
        return {key: _with_large_numbers(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_with_large_numbers(item) for item in cast("list[object]", value)]
    if isinstance(value, float) and math.isinf(value):
        return msgspec.Raw(b"1e999" if value > 0 else b"-1e999")
    return value


def report(event: object) -> None:
    """Tell people what has happened to the connection."""
    match event:
        case Recovering(reason=reason):
            note(f"connection dropped ({reason}), recovering")
        case Recovered():
            note("recovered, nothing was lost")
        case Disconnected(reason=reason, code=code) if code != 1000:
            note(f"connection lost for good ({reason}), connecting anew")
        case MessagesMissed(first=0):
            note("a message was missed: it could not be read")
        case MessagesMissed(first=first, last=last):
            note(f"messages {first} to {last} were missed")
        case RejoinGroupFailed(group=group, error=error):
            note(f"could not join {name_of(group)} again: {error}")
        case _:
            return


def note(text: str) -> None:
    """Print a note on standard error."""
    click.echo(f"-- {one_line(text, 500)}", err=True)
