"""``holdfast sub`` and ``holdfast pub``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any

import click
import msgspec

from holdfast import (
    Disconnected,
    GroupMessage,
    Message,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
)
from holdfast.asyncio import Client
from holdfast.cli._terminal import printable
from holdfast_core._text import line

_EVENTS = (Recovering, Recovered, Disconnected, MessagesMissed, RejoinGroupFailed)


async def subscribe(url: str | Callable[[], str], groups: Collection[str], count: int | None, as_json: bool) -> None:
    """Print messages until ``count`` of them have come."""
    client = Client(url)
    for event_type in _EVENTS:
        client.on(event_type, _tell)
    async with client:
        for group in groups:
            await client.join_group(group)
        _note(f"connected as {client.connection_id}" + (f", user {client.user_id}" if client.user_id else ""))
        if not groups:
            _note("no GROUP to join was given: only what comes without joining is printed")
        async for message in client:
            click.echo(printable(_as_json(message) if as_json else _as_text(message)))
            if count is not None:
                count -= 1
                if not count:
                    break


async def publish(url: str | Callable[[], str], target: str, data: tuple[str, ...], event: bool, as_json: bool) -> None:
    """Send everything, each when the one before was acknowledged."""
    client = Client(url)
    for event_type in _EVENTS:
        client.on(event_type, _tell)
    sent = 0
    async with client:
        async for text in _given(data) if data else _lines():
            value: Any = _parse(text) if as_json else text
            if event:
                await client.send_event(target, value)
            else:
                await client.send_to_group(target, value)
            sent += 1
    _note(f"{sent} message{'s' if sent != 1 else ''} sent and acknowledged")


async def _given(data: Iterable[str]) -> AsyncIterator[str]:
    for text in data:
        yield text


async def _lines() -> AsyncIterator[str]:
    """The lines of standard input, read where they do not hold up the connection."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.rstrip("\r\n")


def _parse(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.ClickException(f"DATA is not JSON: {error}") from error


def _as_json(message: Message) -> str:
    return msgspec.json.encode(message).decode()


def _as_text(message: Message) -> str:
    if type(message) is GroupMessage:
        sender = f"{message.group} {message.from_user_id}" if message.from_user_id else message.group
    else:
        sender = "server"
    data = message.data
    if not isinstance(data, str):
        data = repr(data) if isinstance(data, bytes) else msgspec.json.encode(data).decode()
    return f"{sender}: {data}"


def _tell(event: object) -> None:
    match event:
        case Recovering(reason=reason):
            _note(f"connection dropped ({reason}), recovering")
        case Recovered():
            _note("recovered, nothing was lost")
        case Disconnected(reason=reason, code=code) if code != 1000:
            _note(f"connection lost for good ({reason}), connecting anew")
        case MessagesMissed(first=first, last=last):
            _note(f"messages {first} to {last} were missed")
        case RejoinGroupFailed(group=group, error=error):
            _note(f"could not join {group} again: {error}")
        case _:
            return


def _note(text: str) -> None:
    click.echo(f"-- {line(text, 500)}", err=True)
