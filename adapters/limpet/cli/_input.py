"""What is sent: arguments, files, or lines of standard input, as text, JSON or bytes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click
import msgspec

from limpet_core.text import escape

F = TypeVar("F", bound=Callable[..., Any])

# What an option of the form says: how bytes become the value that is sent.
_FORMS: Final[dict[str, Callable[[bytes], Any]]] = {}


def data_options(command: F) -> F:
    """Add the options that say what DATA is, as the arguments ``form`` (None: text) and ``files``."""
    command = click.option(
        "--file",
        "files",
        metavar="FILE",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        help="Send the content of FILE instead of DATA; - is standard input. Text, unless another option says so.",
    )(command)
    for name, text in {
        "base64": "DATA is base64, and is sent as the bytes that it stands for.",
        "binary": "DATA is sent as bytes, as it is.",
        "json": "DATA is JSON instead of text.",
    }.items():
        command = click.option(f"--{name}", "form", flag_value=name, help=text)(command)
    return command


def values_of(data: Iterable[str], files: Iterable[str], form: str | None) -> AsyncIterator[Any]:
    """Return what is sent: each of ``data`` and each file, or each line of standard input if there are none.

    Raises:
        click.ClickException: one of ``data`` or a file is not what ``form`` says, or cannot be read.
        click.UsageError: there are both.
        ValueError: there is no standard input.
    """
    data, files = list(data), list(files)
    if data and files:
        raise click.UsageError("give DATA or --file, not both")
    make = _FORMS[form or "text"]
    if not data and not files:
        return _lines(_standard_input(), make)
    whole = [make(os.fsencode(text)) for text in data]
    return _each(whole + [make(_content(name)) for name in files])


def one_value(data: str | None, files: tuple[str, ...], form: str | None) -> Any:
    """Return the one value that is sent, or None without any. Raises as :func:`values_of`."""
    contents = [_content(name) for name in files] + ([] if data is None else [os.fsencode(data)])
    if len(contents) > 1:
        raise click.UsageError("give DATA or one --file, not both")
    return _FORMS[form or "text"](contents[0]) if contents else None


def _content(name: str) -> bytes:
    try:
        return _standard_input().read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise click.ClickException(f"--file {escape(name)}: {escape(error.strerror or str(error))}") from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"DATA is no text in UTF-8: {error}; --binary sends any bytes") from error


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise click.ClickException(f"DATA is not JSON: {error}") from error
    except RecursionError as error:
        raise click.ClickException("DATA is nested too deeply") from error


def _base64(data: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error as error:
        raise click.ClickException(f"DATA is not base64: {error}") from error


_FORMS.update({"text": _text, "json": _json, "base64": _base64, "binary": bytes})


async def _each(values: Iterable[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


def _standard_input() -> IO[bytes]:
    """Return another reader of standard input.

    ``sys.stdin`` itself does not do: the interpreter would end with a fatal error because a thread has its lock.

    Raises:
        ValueError: there is no standard input.
    """
    stdin: Any = sys.stdin
    if stdin is None:
        raise ValueError("standard input is closed: give DATA on the command line, or redirect a file to the command")
    return open(stdin.fileno(), "rb", closefd=False)


async def _lines(stdin: IO[bytes], make: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """Yield the lines of ``stdin``, read in a thread so that the connection goes on.

    Nothing waits for that thread: a read of a terminal cannot be interrupted, and would hold up the end of the program.
    """
    wanted: queue.SimpleQueue[asyncio.Future[bytes]] = queue.SimpleQueue()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_read_lines, args=(stdin, wanted, loop), name="limpet-stdin", daemon=True).start()
    while True:
        wanted.put(following := loop.create_future())
        if not (line := await following):
            return
        yield make(line.rstrip(b"\r\n"))


def _read_lines(
    stdin: IO[bytes], wanted: queue.SimpleQueue[asyncio.Future[bytes]], loop: asyncio.AbstractEventLoop
) -> None:
    while True:
        line, following = b"", wanted.get()
        error: Exception | None = None
        try:
            line = stdin.readline()
        except Exception as raised:  # noqa: BLE001 - it is the reader's
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, following, line, error)


def _settle(following: asyncio.Future[bytes], line: bytes, error: Exception | None) -> None:
    if following.done():
        return  # nothing waits for it any more
    if error is not None:
        following.set_exception(error)
    else:
        following.set_result(line)
