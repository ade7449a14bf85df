"""Options that several commands have."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from limpet.cli._negotiate import negotiated
from limpet.cli._running import user_errors
from limpet_core.text import escape

ALL_ROLES: Final = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
"""The roles for joining and sending to every group."""

Url = str | Callable[[], str | Awaitable[str]]
"""What a client takes: a client URL, or a function that returns a fresh one."""

F = TypeVar("F", bound=Callable[..., Any])

# In the order in which they count if more than one comes from the environment.
_PLACES: Final = {"url": "--url", "connection_string": "--connection-string", "negotiate": "--negotiate"}

# Why --hub and --user have no effect with a place.
_CHOSEN_ALREADY: Final = {
    "url": "a client URL names its hub and its user itself",
    "negotiate": "the application chooses the hub and the user",
}


class Number(click.FloatRange):
    """A number within a range: NaN is in none, though it compares as if it were."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("nan is no number", param, ctx)
        return number


@dataclasses.dataclass(frozen=True)
class Source:
    """The service to connect to: a client URL, or what client URLs are made with."""

    place: str | None
    value: str
    hub: str
    user: str | None
    headers: tuple[str, ...]

    def url(self) -> Url:
        """Return the argument for a client: the URL, or a function that returns a fresh URL for each connection."""
        match self.place:
            case "url":
                return self.value
            case "negotiate":
                return negotiated(self.value, self.headers)
            case "connection_string":
                from limpet.service import client_url

                make = functools.partial(client_url, self.value, self.hub, user_id=self.user, roles=ALL_ROLES)
                with user_errors():
                    make()  # report a bad connection string now, before any connection
                return make
            case _:
                raise click.UsageError(
                    "Where to? Give --url, --negotiate or --connection-string (or set LIMPET_URL, LIMPET_NEGOTIATE or "
                    "LIMPET_CONNECTION_STRING); `limpet serve` prints URLs and a connection string."
                )


def client_options(command: F) -> F:
    """Add the options of commands that connect, as one argument ``source``."""

    @click.option("--url", envvar="LIMPET_URL", show_envvar=True, help="Client URL, as `limpet url` prints it.")
    @click.option(
        "--negotiate",
        metavar="URL",
        envvar="LIMPET_NEGOTIATE",
        show_envvar=True,
        help='Ask your application at this URL for a client URL, for each new connection: {"url": "wss://..."} or the '
        "URL as text, to GET or POST.",
    )
    @click.option(
        "--negotiate-header",
        "headers",
        metavar="'NAME: VALUE'",
        multiple=True,
        help="Header for --negotiate, such as 'Authorization: Bearer ...'; repeatable.",
    )
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
    def wrapper(hub: str, user: str | None, headers: tuple[str, ...], **others: Any) -> Any:
        values = {place: others.pop(place) for place in _PLACES}
        place = _chosen(values)
        value = "" if place is None else values[place]
        _refuse_without_effect(place)
        return command(source=Source(place, value, hub, user, headers), **others)

    return wrapper  # type: ignore[return-value]


def _chosen(values: dict[str, str | None]) -> str | None:
    """Return the place that counts: the one on the command line, else the first of the environment."""
    context = click.get_current_context()
    given = [place for place, value in values.items() if value is not None]
    typed = [place for place in given if context.get_parameter_source(place) is ParameterSource.COMMANDLINE]
    if len(typed) > 1:
        raise click.UsageError(f"{' and '.join(_PLACES[place] for place in typed)} are two places: give one of them.")
    return next(iter(typed or given), None)


def _refuse_without_effect(place: str | None) -> None:
    """Raise click.UsageError for an option on the command line that nothing would use."""
    context = click.get_current_context()
    if place is None:
        return
    # The place may come from the environment, where nobody sees it.
    given = "" if context.get_parameter_source(place) is ParameterSource.COMMANDLINE else f" (LIMPET_{place.upper()})"
    for option in ("hub", "user"):
        if place in _CHOSEN_ALREADY and context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} is for --connection-string: {_CHOSEN_ALREADY[place]}{given}")
    if place != "negotiate" and context.get_parameter_source("headers") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--negotiate-header is for --negotiate: with {_PLACES[place]}{given} nobody is asked")


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
    @click.option("--hub", default="chat", show_default=True, help="Hub to connect to.")
    @click.option("--user", "user_id", help="User id; without it the client is anonymous.")
    @click.option(
        "--role",
        "roles",
        multiple=True,
        default=ALL_ROLES,
        help="Role, such as webpubsub.sendToGroup.GROUP; repeatable. By default joining and sending to every group.",
    )
    @click.option("--group", "groups", multiple=True, help="Group that the client is in from the start; repeatable.")
    @click.option(
        "--minutes",
        default=60.0,
        show_default=True,
        type=Number(min=0, min_open=True),
        help="How long a client can connect with it.",
    )
    @functools.wraps(command)
    def wrapper(minutes: float, **others: Any) -> Any:
        return command(expires_in=minutes * 60, **others)

    return wrapper  # type: ignore[return-value]


def verbose_option(command: F) -> F:
    """Add the option ``--verbose``, as the argument ``verbose``."""
    return click.option("--verbose", "-v", is_flag=True, help="Log every message on the wire, without tokens.")(command)


def metadata_option(command: F) -> F:
    """Add the option ``--metadata``, as the argument ``metadata``: a dict."""
    return click.option(
        "--metadata",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_metadata,
        help="A name and a value that accompany the data; repeatable.",
    )(command)


def _metadata(_context: click.Context, _option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    return pairs_of(pairs, "--metadata ")


def pairs_of(pairs: tuple[str, ...], option: str = "") -> dict[str, str]:
    """Return the dict that ``KEY=VALUE ...`` says. Raises click.UsageError for what is no pair, or repeats a key."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option}needs KEY=VALUE, not {escape(pair)!r}")
        if key in found:
            raise click.UsageError(f"{option}has the key {escape(key)!r} twice")
        found[key] = value
    return found
