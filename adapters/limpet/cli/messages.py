"""``limpet sub``, ``limpet pub`` and ``limpet invoke``."""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, TextIO

import click
import msgspec

from limpet import GroupMessage, Message
from limpet.asyncio import Client
from limpet.cli._reports import EVENTS, as_json_line, data_as_text, name_of, note, report
from limpet_core.text import escape

_SERVER = "server"


async def subscribe(url: str | Callable[[], str], groups: Collection[str], count: int | None, as_json: bool) -> None:
    """Print messages, ``count`` of them if it is given."""
    client = Client(url)
    for event_type in EVENTS:
        client.on(event_type, report)
    async with client:
        for group in groups:
            await client.join_group(group)
        note(f"connected as {client.connection_id}" + (f", user {name_of(client.user_id)}" if client.user_id else ""))
        if not groups:
            note("no GROUP was given: only messages to this user, this connection or the whole hub are printed")
        async for message in client:
            if type(message) is GroupMessage and message.stream is not None and message.stream.end:
                fault = message.stream.error
                how = "ended" if fault is None else f"failed: {fault.name}: {fault.message}"
                note(f"stream {name_of(message.stream.stream_id)} in {name_of(message.group)} {how}")
                continue
            try:
                text = as_json_line(message) if as_json else _as_text(message)
            except RecursionError:
                note("a message is not shown: it is nested too deeply")
            else:
                click.echo(escape(text))
            if count is not None:
                count -= 1
                if not count:
                    break


async def publish(
    url: str | Callable[[], str],
    target: str,
    data: tuple[str, ...],
    event: bool,
    as_json: bool,
    metadata: Mapping[str, str],
    ttl: float | None,
) -> None:
    """Send each text of ``data``, or each line of standard input, after the acknowledgement of the one before."""
    texts = texts_of(data)
    client = Client(url)
    for event_type in EVENTS:
        client.on(event_type, report)
    sent = 0
    async with client:
        async for text in texts:
            value: Any = parse(text) if as_json else text
            if event:
                await client.send_event(target, value, metadata=metadata)
            else:
                await client.send_to_group(target, value, metadata=metadata, ttl=ttl)
            sent += 1
    note(f"{sent} message{'s' if sent != 1 else ''} sent and acknowledged")


async def invoke(
    url: str | Callable[[], str],
    event: str,
    data: str | None,
    as_json: bool,
    metadata: Mapping[str, str],
    timeout: float | None,
) -> None:
    """Call an event handler and print the data of its reply."""
    value: Any = parse(data) if as_json and data is not None else data
    async with Client(url) as client:
        reply = await client.invoke(event, value, metadata=metadata, timeout=timeout)
        if reply.data_type is None:
            note("the reply has no data")
            return
        try:
            click.echo(escape(data_as_text(reply.data)))
        except RecursionError:
            note("the reply is not shown: it is nested too deeply")


def parse_metadata(pairs: Iterable[str]) -> dict[str, str]:
    """Return the metadata of ``KEY=VALUE`` texts. Raises click.UsageError for any other."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise click.UsageError(f"--metadata needs KEY=VALUE, not {escape(pair)!r}")
        if key in metadata:
            raise click.UsageError(f"--metadata has the key {escape(key)!r} twice")
        metadata[key] = value
    return metadata


def texts_of(data: tuple[str, ...]) -> AsyncIterator[str]:
    """Return the texts of ``data``, or the lines of standard input if there are none."""
    return _texts(data) if data else _lines(_standard_input())


def values_of(data: tuple[str, ...], as_json: bool) -> AsyncIterator[Any]:
    """Return what :func:`texts_of` does, or the values if the texts are JSON; those of ``data`` are parsed at once."""
    if not as_json:
        return texts_of(data)
    return _texts([parse(text) for text in data]) if data else _parsed(texts_of(data))


async def _parsed(texts: AsyncIterator[str]) -> AsyncIterator[Any]:
    async for text in texts:
        yield parse(text)


async def _texts(data: Iterable[Any]) -> AsyncIterator[Any]:
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


def parse(text: str) -> Any:
    """Return the value of JSON. Raises click.ClickException for anything else."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise click.ClickException(f"DATA is not JSON: {error}") from error
    except RecursionError as error:
        raise click.ClickException("DATA is nested too deeply") from error


def _as_text(message: Message) -> str:
    if type(message) is GroupMessage:
        sender = (
            f"{name_of(message.group)} {name_of(message.from_user_id)}"
            if message.from_user_id
            else _alone(message.group)
        )
    else:
        sender = _SERVER
    return f"{sender}: {data_as_text(message.data)}"


def _alone(group: str) -> str:
    """Return the name of a group without a user behind it: a group can be called ``server``, too."""
    return json.dumps(group) if group == _SERVER else name_of(group)
