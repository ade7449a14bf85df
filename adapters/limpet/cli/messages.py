"""``limpet sub`` and ``limpet pub``."""

from __future__ import annotations

import asyncio
import json
import math
import queue
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import suppress
from typing import Any, TextIO, cast

import click
import msgspec

from limpet import (
    Disconnected,
    GroupMessage,
    InvalidValue,
    Message,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
)
from limpet.asyncio import Client
from limpet_core.protocol.json import encode_json
from limpet_core.text import escape, one_line

# A name that cannot be taken for anything else in a line: no space, colon or quotation mark.
_PLAIN = re.compile(r"\w[\w.@+/~-]*")

_SERVER = "server"

_EVENTS = (Recovering, Recovered, Disconnected, MessagesMissed, RejoinGroupFailed)


async def subscribe(url: str | Callable[[], str], groups: Collection[str], count: int | None, as_json: bool) -> None:
    """Print messages, ``count`` of them if it is given."""
    client = Client(url)
    for event_type in _EVENTS:
        client.on(event_type, _report)
    async with client:
        for group in groups:
            await client.join_group(group)
        _note(f"connected as {client.connection_id}" + (f", user {_name(client.user_id)}" if client.user_id else ""))
        if not groups:
            _note("no GROUP was given: only messages to this user, this connection or the whole hub are printed")
        async for message in client:
            try:
                text = _as_json(message) if as_json else _as_text(message)
            except RecursionError:
                _note("a message is not shown: it is nested too deeply")
            else:
                click.echo(escape(text))
            if count is not None:
                count -= 1
                if not count:
                    break


async def publish(url: str | Callable[[], str], target: str, data: tuple[str, ...], event: bool, as_json: bool) -> None:
    """Send each text of ``data``, or each line of standard input, after the acknowledgement of the one before."""
    texts = _texts(data) if data else _lines(_standard_input())
    client = Client(url)
    for event_type in _EVENTS:
        client.on(event_type, _report)
    sent = 0
    async with client:
        async for text in texts:
            value: Any = _parse(text) if as_json else text
            if event:
                await client.send_event(target, value)
            else:
                await client.send_to_group(target, value)
            sent += 1
    _note(f"{sent} message{'s' if sent != 1 else ''} sent and acknowledged")


async def _texts(data: Iterable[str]) -> AsyncIterator[str]:
    for text in data:
        yield text


def _standard_input() -> TextIO:
    """Return another reader of standard input.

    ``sys.stdin`` itself does not do: the interpreter would end with a fatal error because a thread has its lock.

    Raises:
        ValueError: there is no standard input.
    """
    stdin: TextIO | None = sys.stdin
    if stdin is None:
        raise ValueError("standard input is closed: give DATA on the command line, or redirect a file to the command")
    return open(stdin.fileno(), encoding=stdin.encoding, errors=stdin.errors, closefd=False)


async def _lines(stdin: TextIO) -> AsyncIterator[str]:
    """Yield the lines of ``stdin``, read in a thread so that the connection goes on.

    Nothing waits for that thread: a read of a terminal cannot be interrupted, and would hold up the end of the program.
    """
    wanted: queue.SimpleQueue[asyncio.Future[str]] = queue.SimpleQueue()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_read_lines, args=(stdin, wanted, loop), name="limpet-stdin", daemon=True).start()
    while True:
        wanted.put(following := loop.create_future())
        if not (line := await following):
            return
        yield line.rstrip("\r\n")


def _read_lines(stdin: TextIO, wanted: queue.SimpleQueue[asyncio.Future[str]], loop: asyncio.AbstractEventLoop) -> None:
    while True:
        line, following = "", wanted.get()
        error: Exception | None = None
        try:
            line = stdin.readline()
        except Exception as raised:  # noqa: BLE001 - it is the reader's
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, following, line, error)


def _settle(following: asyncio.Future[str], line: str, error: Exception | None) -> None:
    if following.done():
        return  # nothing waits for it any more
    if error is not None:
        following.set_exception(error)
    else:
        following.set_result(line)


def _parse(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise click.ClickException(f"DATA is not JSON: {error}") from error
    except RecursionError as error:
        raise click.ClickException("DATA is nested too deeply") from error


def _as_json(message: Any) -> str:
    try:
        return encode_json(message).decode()
    except InvalidValue:
        # A number beyond floats was decoded as inf: write such a number, where the encoder would write null.
        return msgspec.json.encode(_with_large_numbers(msgspec.to_builtins(message))).decode()


def _with_large_numbers(value: object) -> object:
    """Return a value with each infinity replaced by a JSON number beyond floats."""
    if isinstance(value, dict):
        return {key: _with_large_numbers(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_with_large_numbers(item) for item in cast("list[object]", value)]
    if isinstance(value, float) and math.isinf(value):
        return msgspec.Raw(b"1e999" if value > 0 else b"-1e999")
    return value


def _as_text(message: Message) -> str:
    if type(message) is GroupMessage:
        sender = (
            f"{_name(message.group)} {_name(message.from_user_id)}" if message.from_user_id else _alone(message.group)
        )
    else:
        sender = _SERVER
    data = message.data
    if not isinstance(data, str):
        data = repr(data) if isinstance(data, bytes) else _as_json(data)
    return f"{sender}: {data}"


def _name(name: str) -> str:
    """Return a name as it is, or as a JSON string if it could be taken for more than a name."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _alone(group: str) -> str:
    """Return the name of a group without a user behind it: a group can be called ``server``, too."""
    return json.dumps(group) if group == _SERVER else _name(group)


def _report(event: object) -> None:
    match event:
        case Recovering(reason=reason):
            _note(f"connection dropped ({reason}), recovering")
        case Recovered():
            _note("recovered, nothing was lost")
        case Disconnected(reason=reason, code=code) if code != 1000:
            _note(f"connection lost for good ({reason}), connecting anew")
        case MessagesMissed(first=0):
            _note("a message was missed: it could not be read")
        case MessagesMissed(first=first, last=last):
            _note(f"messages {first} to {last} were missed")
        case RejoinGroupFailed(group=group, error=error):
            _note(f"could not join {_name(group)} again: {error}")
        case _:
            return


def _note(text: str) -> None:
    click.echo(f"-- {one_line(text, 500)}", err=True)
