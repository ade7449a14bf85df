"""What the commands of a client print: names, data, JSON, and news of the connection."""

from __future__ import annotations

import base64
import json
import math
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, cast

import click
import msgspec

from limpet import (
    Connected,
    ConnectionFailed,
    Disconnected,
    GroupMessage,
    InvalidValue,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    ServerMessage,
)
from limpet.asyncio import Client
from limpet_core.protocol.json_requests import encode_json
from limpet_core.text import escape, one_line

# A name that cannot be taken for anything else in a line: no space, colon or quotation mark.
_PLAIN = re.compile(r"\w[\w.@+/~-]*")

EVENTS: Final[tuple[type[Any], ...]] = (
    Recovering,
    ConnectionFailed,
    Recovered,
    Disconnected,
    MessagesMissed,
    RejoinGroupFailed,
)
"""What :func:`report` knows."""

LIFECYCLE: Final[tuple[type[Any], ...]] = (Connected, *EVENTS)
"""What :func:`event_line` knows."""


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
    return f"base64:{base64.b64encode(data).decode()}" if isinstance(data, bytes) else as_json_line(data)


def _with_large_numbers(value: object) -> object:
    """Return a value with each infinity replaced by a JSON number beyond floats."""
    if isinstance(value, dict):
        return {key: _with_large_numbers(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_with_large_numbers(item) for item in cast("list[object]", value)]
    if isinstance(value, float) and math.isinf(value):
        return msgspec.Raw(b"1e999" if value > 0 else b"-1e999")
    return value


def json_line(kind: str, **fields: Any) -> str:
    """Return one line of ``--json``: what has happened, when (RFC 3339, UTC), and the fields of it.

    Bytes are base64; the field ``encoding`` beside ``data`` says so.
    """
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(fields.get("data"), bytes):
        fields["encoding"] = "base64"
    return escape(as_json_line({"type": kind, "time": time, **fields}))


def message_line(message: GroupMessage | ServerMessage) -> str:
    """Return a message as a line of ``--json``."""
    fields: dict[str, Any] = {"from": "server"}
    if type(message) is GroupMessage:
        fields = {"from": "group", "group": message.group, "fromUserId": message.from_user_id}
    fields |= {"data": message.data, "dataType": message.data_type, "sequenceId": message.sequence_id}
    fields |= {"metadata": message.metadata}
    if type(message) is GroupMessage and message.stream is not None:
        fields |= {"streamId": message.stream.stream_id, "streamSequenceId": message.stream.sequence_id}
    return json_line("message", **fields)


def print_event(event: object) -> None:
    """Print an event of the connection as a line of ``--json``, but not that the command itself has closed it."""
    if not (isinstance(event, Disconnected) and event.code == 1000):
        click.echo(event_line(event))


def event_line(event: object) -> str:
    """Return an event of the connection as a line of ``--json``."""
    match event:
        case Connected(connection_id=connection_id, user_id=user_id):
            return json_line("connected", connectionId=connection_id, userId=user_id)
        case Recovering(connection_id=connection_id, code=code, reason=reason):
            return json_line("recovering", connectionId=connection_id, code=code, reason=reason)
        case ConnectionFailed(error=error, attempt=attempt, next_in=next_in):
            return json_line("attemptFailed", attempt=attempt, nextIn=next_in, error=str(error))
        case Recovered(connection_id=connection_id):
            return json_line("recovered", connectionId=connection_id)
        case Disconnected(connection_id=connection_id, code=code, reason=reason):
            return json_line("disconnected", connectionId=connection_id, code=code, reason=reason)
        case MessagesMissed(first=first, last=last):
            return json_line("missed", first=first or None, last=last or None)
        case RejoinGroupFailed(group=group, error=error):
            return json_line("rejoinFailed", group=group, outcome=error.outcome, error=str(error))
        case _:
            raise AssertionError(f"an event that is not of LIFECYCLE: {event!r}")


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


def note_connected(client: Client) -> None:
    """Tell people the connection id, and the user if there is one."""
    user = f", user {name_of(client.user_id)}" if client.user_id else ""
    note(f"connected as {client.connection_id}{user}")


def note(text: str) -> None:
    """Print a note on standard error; without a reader there it is dropped."""
    with suppress(BrokenPipeError):
        click.echo(f"-- {one_line(text, 500)}", err=True)
