"""What the commands share: where to connect, how to run, how to fail."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

from limpet import LimpetError
from limpet.cli._terminal import SafeFormatter
from limpet.service import client_url
from limpet_core.text import escape

EVERYTHING = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
"""The roles that allow joining and sending to every group."""

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended, as shells count it."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Source:
    """Where to connect: a URL as it is, or a connection string to make URLs with."""

    fixed_url: str | None
    connection_string: str | None
    hub: str
    user: str | None

    def url(self) -> str | Callable[[], str]:
        """What a client takes: the URL, or a function that makes a fresh one for each connection."""
        if self.fixed_url is not None:
            return self.fixed_url
        if self.connection_string is None:
            raise click.UsageError(
                "Where to? Give --url or --connection-string (or set LIMPET_URL or LIMPET_CONNECTION_STRING); "
                "`limpet serve` prints both."
            )
        make = functools.partial(client_url, self.connection_string, self.hub, user_id=self.user, roles=EVERYTHING)
        with complain():
            make()  # a bad connection string is best told at once
        return make


def client_options(command: F) -> F:
    """Options of the commands that connect; they become one argument ``source``."""

    @click.option("--url", envvar="LIMPET_URL", show_envvar=True, help="Client URL, as `limpet url` prints it.")
    @click.option(
        "--connection-string",
        "-c",
        envvar="LIMPET_CONNECTION_STRING",
        show_envvar=True,
        help="Make client URLs with this key, fresh ones for each connection.",
    )
    @click.option("--hub", default="chat", show_default=True, help="Hub, with --connection-string.")
    @click.option("--user", help="User id, with --connection-string.")
    @functools.wraps(command)
    def wrapper(url: str | None, connection_string: str | None, hub: str, user: str | None, **others: Any) -> Any:
        return command(source=Source(url, connection_string, hub, user), **others)

    return wrapper  # type: ignore[return-value]


def token_options(command: F) -> F:
    """Options of the commands that sign tokens."""

    @click.option(
        "--connection-string",
        "-c",
        envvar="LIMPET_CONNECTION_STRING",
        show_envvar=True,
        required=True,
        help="As `limpet serve` or the cloud's portal prints it.",
    )
    @click.option("--hub", default="chat", show_default=True)
    @click.option("--user", "user_id", help="User id; without it the client is anonymous.")
    @click.option(
        "--role",
        "roles",
        multiple=True,
        default=EVERYTHING,
        help="May be repeated, such as webpubsub.sendToGroup.GROUP. By default joining and sending to every group.",
    )
    @click.option("--group", "groups", multiple=True, help="Group to be in from the start; may be repeated.")
    @click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(min=0, min_open=True))
    @functools.wraps(command)
    def wrapper(minutes: float, **others: Any) -> Any:
        return command(expires_in=minutes * 60, **others)

    return wrapper  # type: ignore[return-value]


def verbose_option(command: F) -> F:
    """``--verbose``, which becomes the argument ``verbose``."""
    return click.option("--verbose", "-v", is_flag=True, help="Show every message on the wire, without tokens.")(
        command
    )


def show_frames(verbose: bool) -> None:
    """Log warnings, or with ``verbose`` everything, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("limpet")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)


def run(main: Coroutine[Any, Any, int | None]) -> NoReturn:
    """Run ``main`` to its exit status; Ctrl-C and errors end it cleanly."""
    with complain():
        try:
            status = asyncio.run(main)
        except KeyboardInterrupt:
            status = INTERRUPTED
    sys.exit(status or 0)


@contextmanager
def complain() -> Generator[None]:
    """Turn errors that concern the user into one clear line and exit status 1."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(escape(error.strerror or str(error))) from error
    except (LimpetError, ValueError, TypeError) as error:
        raise click.ClickException(escape(str(error))) from error
