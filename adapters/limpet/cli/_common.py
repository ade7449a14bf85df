"""Options, running and errors of the commands."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

from limpet import LimpetError
from limpet._extras import MissingExtra
from limpet.cli._terminal import SafeFormatter
from limpet.service import client_url
from limpet.service._signals import told_to_end
from limpet_core.text import escape

ALL_ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
"""The roles for joining and sending to every group."""

SIGNALLED = 128
"""The exit status after a signal is this and the signal's number, as in shells: 130 after Ctrl-C."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Source:
    """The service to connect to: a fixed client URL, or a connection string that client URLs are made with."""

    fixed_url: str | None
    connection_string: str | None
    hub: str
    user: str | None

    def url(self) -> str | Callable[[], str]:
        """Return the argument for a client: the URL, or a function that returns a fresh URL for each connection."""
        if self.fixed_url is not None:
            return self.fixed_url
        if self.connection_string is None:
            raise click.UsageError(
                "Where to? Give --url or --connection-string (or set LIMPET_URL or LIMPET_CONNECTION_STRING); "
                "`limpet serve` prints both."
            )
        make = functools.partial(client_url, self.connection_string, self.hub, user_id=self.user, roles=ALL_ROLES)
        with user_errors():
            make()  # report a bad connection string now, before any connection
        return make


def client_options(command: F) -> F:
    """Add the options of commands that connect, as one argument ``source``."""

    @click.option("--url", envvar="LIMPET_URL", show_envvar=True, help="Client URL, as `limpet url` prints it.")
    @click.option(
        "--connection-string",
        "-c",
        envvar="LIMPET_CONNECTION_STRING",
        show_envvar=True,
        help="Sign client URLs with the key in this connection string, a fresh one for each connection.",
    )
    @click.option("--hub", default="chat", show_default=True, help="Hub, with --connection-string.")
    @click.option("--user", help="User id, with --connection-string.")
    @functools.wraps(command)
    def wrapper(url: str | None, connection_string: str | None, hub: str, user: str | None, **others: Any) -> Any:
        return command(source=Source(url, connection_string, hub, user), **others)

    return wrapper  # type: ignore[return-value]


def token_options(command: F) -> F:
    """Add the options of commands that sign tokens."""

    @click.option(
        "--connection-string",
        "-c",
        envvar="LIMPET_CONNECTION_STRING",
        show_envvar=True,
        required=True,
        help="As printed by `limpet serve`, or shown in the portal of the cloud.",
    )
    @click.option("--hub", default="chat", show_default=True)
    @click.option("--user", "user_id", help="User id; without it the client is anonymous.")
    @click.option(
        "--role",
        "roles",
        multiple=True,
        default=ALL_ROLES,
        help="Role, such as webpubsub.sendToGroup.GROUP; repeatable. By default joining and sending to every group.",
    )
    @click.option("--group", "groups", multiple=True, help="Group that the client is in from the start; repeatable.")
    @click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(min=0, min_open=True))
    @functools.wraps(command)
    def wrapper(minutes: float, **others: Any) -> Any:
        return command(expires_in=minutes * 60, **others)

    return wrapper  # type: ignore[return-value]


def verbose_option(command: F) -> F:
    """Add the option ``--verbose``, as the argument ``verbose``."""
    return click.option("--verbose", "-v", is_flag=True, help="Log every message on the wire, without tokens.")(command)


def log_to_stderr(verbose: bool) -> None:
    """Log warnings, or with ``verbose`` all messages on the wire, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("limpet")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)


def run(main: Coroutine[Any, Any, int | None]) -> NoReturn:
    """Run ``main`` and exit with the status that it returns; handle user errors, Ctrl-C, SIGTERM and SIGHUP.

    The signals cancel ``main``, which says goodbye; the exit status is 128 and the number of the signal then.
    """
    told: list[int] = []

    async def cancellable() -> int | None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def tell(number: int) -> None:
            told.append(number)
            loop.call_soon_threadsafe(task.cancel)

        with told_to_end(loop, tell):
            return await main

    with user_errors():
        try:
            status = asyncio.run(cancellable())
        except KeyboardInterrupt:
            status = SIGNALLED + signal.SIGINT
        except asyncio.CancelledError:
            if not told:
                raise
            status = SIGNALLED + told[0]
    sys.exit(status or 0)


@contextmanager
def user_errors() -> Generator[None]:
    """Report errors of the user, the network and the service in one line, with exit status 1."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(escape(error.strerror or str(error))) from error
    except (LimpetError, MissingExtra, ValueError, TypeError) as error:
        raise click.ClickException(escape(str(error))) from error
