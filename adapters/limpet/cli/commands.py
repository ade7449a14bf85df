"""The commands and their options; each does its work in a module of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from limpet import __version__
from limpet.cli._common import (
    EVERYTHING,
    Source,
    client_options,
    complain,
    run,
    show_frames,
    token_options,
    verbose_option,
)
from limpet.cli.demo import demo
from limpet.cli.messages import publish, subscribe
from limpet.service import HubOptions, Service, ServiceOptions, client_url, load_options, mint_client_token, serve
from limpet.service.config import parse_event_handler, with_hubs


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="limpet")
def cli() -> None:
    """A Web PubSub client that holds on, and a local service that speaks the same protocol."""


@cli.command("serve")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="TOML file with the options of the service, its hubs and their event handlers.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--hub", default="chat", show_default=True, help="Hub of the client URLs that are printed.")
@click.option(
    "--key",
    "--access-key",
    "access_key",
    envvar="LIMPET_ACCESS_KEY",
    show_envvar=True,
    help="Signs the tokens, at least 32 bytes. By default a new one for each start.",
)
@click.option(
    "--secondary-key",
    "secondary_access_key",
    envvar="LIMPET_SECONDARY_ACCESS_KEY",
    show_envvar=True,
    help="A second key whose tokens are as good, so that keys can be changed one by one.",
)
@click.option(
    "--anonymous", "anonymous_hubs", metavar="HUB", multiple=True, help="Hub that needs no token; repeatable."
)
@click.option(
    "--event-handler",
    "event_handlers",
    metavar="HUB=URL[;...]",
    multiple=True,
    help="Call URL about clients of HUB; {hub} and {event} in it stand for the names. It gets all events unless "
    "';user-events=A,B' or ';system-events=connect,connected,disconnected' says which, and has 100 seconds for "
    "each unless ';timeout=SECONDS' says how many. After a network error, 408 or 5xx it is called again, after 1, 3 "
    "and 5 seconds: ';retries=0' is never, ';retry-delays=0.5,1' at other times, and ';resend=safe' only if it could "
    "not be reached. Repeatable; the first that gets an event is called.",
)
@verbose_option
def serve_command(
    config: str | None,
    host: str,
    port: int,
    hub: str,
    access_key: str | None,
    secondary_access_key: str | None,
    anonymous_hubs: tuple[str, ...],
    event_handlers: tuple[str, ...],
    verbose: bool,
) -> None:
    """Run the local service until Ctrl-C."""
    show_frames(verbose)

    def ready(service: Service) -> None:
        click.echo(f"Limpet's local service listens on {service.endpoint} (Ctrl-C stops it).\n")
        if service.trace_url is not None:
            click.echo("Watch it, and try it, in a browser:")
            click.echo(f"  {service.trace_url}\n")
        click.echo("Connection string, for server SDKs and for `limpet url`:")
        click.echo(f"  {service.connection_string}\n")
        click.echo(f"Client URLs for the hub {hub!r}. They may join and send to every group; connect within an hour.")
        for user in ("alice", "bob"):
            click.echo(f"As user {user}:")
            click.echo(f"  {service.client_url(hub, user_id=user, roles=EVERYTHING)}")
        if service.options.access_key is None:
            click.echo(
                "\nThe access key was made for this start: the next one refuses these URLs and this connection string."
            )
            click.echo("To keep them good, give a key of your own with --key or LIMPET_ACCESS_KEY.")

    with complain():
        options = ServiceOptions() if config is None else load_options(config)
        options = dataclasses.replace(
            options,
            access_key=access_key or options.access_key,
            secondary_access_key=secondary_access_key or options.secondary_access_key,
        )
        options = with_hubs(options, [(name, HubOptions(anonymous=True)) for name in anonymous_hubs])
        # What is named first is asked first.
        options = with_hubs(options, [parse_event_handler(text) for text in reversed(event_handlers)])
        serve(options, host, port, on_start=ready)
    click.echo("Stopped.")


@cli.command("token")
@token_options
def token_command(connection_string: str, hub: str, **grant: Any) -> None:
    """Print an access token for a client."""
    with complain():
        click.echo(mint_client_token(connection_string, hub, **grant))


@cli.command("url")
@token_options
def url_command(connection_string: str, hub: str, **grant: Any) -> None:
    """Print a client URL, with a token in it."""
    with complain():
        click.echo(client_url(connection_string, hub, **grant))


@cli.command("sub")
@client_options
@click.argument("groups", metavar="GROUP...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many messages.")
@click.option("--json", "as_json", is_flag=True, help="Print each message as one line of JSON.")
@verbose_option
def sub_command(source: Source, groups: tuple[str, ...], count: int | None, as_json: bool, verbose: bool) -> None:
    """Join GROUPs and print what arrives; server messages are printed as well.

    What happens to the connection is told on standard error.
    """
    show_frames(verbose)
    run(subscribe(source.url(), groups, count, as_json))


@cli.command("pub")
@client_options
@click.argument("target", metavar="GROUP")
@click.argument("data", metavar="[DATA]...", nargs=-1)
@click.option("--event", is_flag=True, help="GROUP is the name of an event for the application server.")
@click.option("--json", "as_json", is_flag=True, help="DATA is JSON instead of text.")
@verbose_option
def pub_command(source: Source, target: str, data: tuple[str, ...], event: bool, as_json: bool, verbose: bool) -> None:
    """Send each DATA to GROUP and wait until the service has it; without DATA, each line of standard input."""
    show_frames(verbose)
    run(publish(source.url(), target, data, event, as_json))


@cli.command("demo")
@click.option("--seconds", default=12.0, show_default=True, type=click.FloatRange(1, 300), help="How long to publish.")
@click.option("--rate", default=600, show_default=True, type=click.IntRange(1, 2000), help="Messages a second.")
@click.option("--subscribers", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--seed", type=int, help="Repeat an earlier schedule of cuts.")
@verbose_option
def demo_command(seconds: float, rate: int, subscribers: int, seed: int | None, verbose: bool) -> None:
    """Show that nothing is lost: publish through connections that are cut again and again.

    Everything runs here: the local service, a publisher and subscribers over real sockets, and a proxy between
    them that cuts. The exit status is 0 only if nothing was lost, duplicated or out of order.
    """
    show_frames(verbose)
    run(demo(seconds, rate, subscribers, seed))
