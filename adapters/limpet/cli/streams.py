"""``limpet pub --stream`` and ``limpet sub --streams``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import click

from limpet import StreamChunk, StreamError
from limpet.asyncio import Client, IncomingStream
from limpet.cli._options import Url
from limpet.cli._reports import (
    EVENTS,
    LIFECYCLE,
    data_as_text,
    json_line,
    name_of,
    note,
    note_connected,
    print_event,
    report,
)
from limpet_core.text import escape


async def write_stream(url: Url, group: str, fragments: AsyncIterator[Any]) -> None:
    """Write each of ``fragments`` to a stream of ``group``, and end the stream behind them."""
    client = Client(url)
    for event_type in EVENTS:
        client.on(event_type, report)
    written = 0
    async with client, client.open_stream(group) as stream:
        note(f"stream {name_of(stream.stream_id)}")
        async for fragment in fragments:
            await stream.write(fragment)
            written += 1
    note(f"{written} fragment{'s' if written != 1 else ''} written and acknowledged")


async def print_streams(url: Url, groups: Collection[str], count: int | None, as_json: bool) -> None:
    """Print the fragments of the streams of ``groups``, until ``count`` streams have ended if it is given."""
    client = Client(url)
    for event_type in LIFECYCLE if as_json else EVENTS:
        client.on(event_type, print_event if as_json else report)
    async with client:
        streams = client.streams()
        for group in groups:
            await client.join_group(group)
            if as_json:
                click.echo(json_line("joined", group=group))
        if not as_json:
            note_connected(client)
        printing: set[asyncio.Task[None]] = set()
        failed: list[asyncio.Task[None]] = []

        def done(task: asyncio.Task[None]) -> None:
            printing.discard(task)
            if not task.cancelled() and task.exception() is not None:  # standard output is closed, for example
                failed.append(task)
                streams.close()  # which ends the iteration

        try:
            async for stream in streams:
                printing.add(task := asyncio.create_task(_print_stream(stream, as_json)))
                task.add_done_callback(done)
                if count is not None:
                    count -= 1
                    if not count:
                        break
            if failed:
                failed[0].result()
            await asyncio.gather(*printing)
        finally:
            for task in printing:
                task.cancel()


async def _print_stream(stream: IncomingStream, as_json: bool) -> None:
    sender = f" {name_of(stream.from_user_id)}" if stream.from_user_id else ""
    name = f"{name_of(stream.group)}{sender} {name_of(stream.stream_id)}"
    about = {"group": stream.group, "fromUserId": stream.from_user_id, "streamId": stream.stream_id}

    def tell(kind: str, text: str, **fields: Any) -> None:
        if as_json:
            click.echo(json_line(kind, **about, **fields))
        else:
            note(f"stream {name} {text}")

    if not stream.from_start:
        tell("streamJoined", "was under way already")
    try:
        async for chunk in stream:
            try:
                line = _fragment_line(about, chunk) if as_json else escape(f"{name}: {data_as_text(chunk.data)}")
            except RecursionError:
                note("a fragment is not shown: it is nested too deeply")
            else:
                click.echo(line)
    except StreamError as error:
        tell("streamEnded", f"failed: {error}", error=str(error))
    else:
        tell("streamEnded", "ended", error=None)


def _fragment_line(about: dict[str, Any], chunk: StreamChunk) -> str:
    place = {"streamSequenceId": chunk.sequence_id, "dataType": chunk.data_type, "data": chunk.data}
    return json_line("fragment", **about, **place)
