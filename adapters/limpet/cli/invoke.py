"""``limpet invoke``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from limpet import Reply
from limpet.asyncio import Client
from limpet.cli._input import data_options, one_value
from limpet.cli._options import Number, Source, Url, client_options, metadata_option, verbose_option
from limpet.cli._reports import as_json_line, data_as_text, note
from limpet.cli._running import log_to_stderr, run, user_errors
from limpet_core.text import escape


@click.command("invoke", short_help="Call an event handler and print its reply.")
@client_options
@click.argument("event", metavar="EVENT")
@click.argument("data", metavar="[DATA]", required=False)
@data_options
@metadata_option
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the data of the reply to FILE, as it is; - is standard output. Without it, binary data is shown as "
    "base64.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Number(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long to wait for a connection and the reply.",
)
@verbose_option
def invoke(
    source: Source,
    event: str,
    data: str | None,
    files: tuple[str, ...],
    form: str | None,
    metadata: dict[str, str],
    output: str | None,
    timeout: float,
    verbose: bool,
) -> None:
    """Call the application server's handler for EVENT, with DATA if it is given, and print the reply.

    The exit status is 1 without a reply; the error says whether the handler may have been called.
    """
    log_to_stderr(verbose)
    with user_errors():
        value = one_value(data, files, form)
    run(_invoke(source.url(), event, value, metadata, timeout, output))


async def _invoke(
    url: Url, event: str, value: Any, metadata: dict[str, str], timeout: float, output: str | None
) -> None:
    async with Client(url) as client:
        reply = await client.invoke(event, value, metadata=metadata, timeout=timeout)
    _show(reply, output)


def _show(reply: Reply, output: str | None) -> None:
    if reply.data_type is None:
        note("the reply has no data")
        return
    try:
        if output is None:
            click.echo(escape(data_as_text(reply.data)))
        elif output == "-":
            sys.stdout.buffer.write(_bytes_of(reply))
            sys.stdout.buffer.flush()
        else:
            Path(output).write_bytes(_bytes_of(reply))
    except RecursionError:
        note("the reply is not shown: it is nested too deeply")


def _bytes_of(reply: Reply) -> bytes:
    if isinstance(reply.data, bytes):
        return reply.data
    return (reply.data if isinstance(reply.data, str) else as_json_line(reply.data)).encode("utf-8", "surrogatepass")
