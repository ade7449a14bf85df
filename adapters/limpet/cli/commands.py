"""The commands and their options."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import click

from limpet import __version__
from limpet.cli._common import (
    ALL_ROLES,
    Source,
    client_options,
    log_to_stderr,
    run,
    token_options,
    user_errors,
    verbose_option,
)
from limpet.cli._https import certificate_context, print_trust
from limpet.cli.demo import demo
from limpet.cli.messages import invoke, parse_metadata, publish, subscribe, values_of
from limpet.cli.states import parse_state, show_states
from limpet.cli.streams import print_streams, write_stream
from limpet.service import HubOptions, Service, ServiceOptions, client_url, load_options, mint_client_token, serve
from limpet.service.config import parse_event_handler, with_hubs


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="limpet")
def cli() -> None:
    """A reliable Web PubSub client, and a local service for development and tests."""


@cli.command("serve")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="TOML file with the options of the service, its hubs and their event handlers.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option(
    "--https", is_flag=True, help="Serve https and wss, with a certificate made for this machine; its path is printed."
)
@click.option(
    "--certificate",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Serve https and wss, with your own certificate and its chain (PEM).",
)
@click.option(
    "--certificate-key",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Private key of --certificate (PEM), if it is not in the same file.",
)
@click.option("--hub", default="chat", show_default=True, help="Hub of the client URLs that are printed.")
@click.option(
    "--key",
    "--access-key",
    "access_key",
    envvar="LIMPET_ACCESS_KEY",
    show_envvar=True,
    help="Key that signs tokens, at least 32 bytes. By default a new one for each start. The private key of "
    "--certificate is --certificate-key.",
)
@click.option(
    "--secondary-key",
    "secondary_access_key",
    envvar="LIMPET_SECONDARY_ACCESS_KEY",
    show_envvar=True,
    help="Second key whose tokens are accepted as well, so that keys can be rotated.",
)
@click.option(
    "--anonymous", "anonymous_hubs", metavar="HUB", multiple=True, help="Hub that needs no token; repeatable."
)
@click.option(
    "--event-handler",
    "event_handlers",
    metavar="HUB=URL[;...]",
    multiple=True,
    help="Send the events of HUB to URL; {hub} and {event} in it stand for the names. The handler gets all events, or "
    "those of ';user-events=A,B' and ';system-events=connect,connected,disconnected'. The timeout of an event is 100 "
    "seconds, or ';timeout=SECONDS'. After a network error, 408 or 5xx the handler is called again, after 1, 3 and 5 "
    "seconds: with ';retries=0' never, with ';retry-delays=0.5,1' after other times, with ';resend=safe' only if there "
    "was no connection. Repeatable; the first handler that gets an event is called.",
)
@verbose_option
def serve_command(
    config: str | None,
    host: str,
    port: int,
    https: bool,
    certificate: str | None,
    certificate_key: str | None,
    hub: str,
    access_key: str | None,
    secondary_access_key: str | None,
    anonymous_hubs: tuple[str, ...],
    event_handlers: tuple[str, ...],
    verbose: bool,
) -> None:
    """Run the local service until Ctrl-C, SIGTERM or SIGHUP.

    The exit status is 0 then: to be stopped is how a service ends. Clients are told that it goes away (close code
    1001).
    """
    log_to_stderr(verbose)

    def ready(service: Service) -> None:
        click.echo(f"Limpet's local service listens on {service.endpoint} (Ctrl-C stops it).\n")
        if service.trace_url is not None:
            click.echo("Watch it, and try it, in a browser:")
            click.echo(f"  {service.trace_url}\n")
        if made is not None:
            print_trust(made)
        click.echo("Connection string, for server SDKs and for `limpet url`:")
        click.echo(f"  {service.connection_string}\n")
        if context is None:
            click.echo(
                "Microsoft's JavaScript server SDK refuses http:// unless it gets { allowInsecureConnection: true }"
            )
            click.echo("as its last argument. Or serve https: start again with --https.\n")
        click.echo(f"Client URLs for the hub {hub!r}. They may join and send to every group; connect within an hour.")
        for user in ("alice", "bob"):
            click.echo(f"As user {user}:")
            click.echo(f"  {service.client_url(hub, user_id=user, roles=ALL_ROLES)}")
        if service.options.access_key is None:
            click.echo(
                "\nThe access key was made for this start: the next one refuses these URLs and this connection string."
            )
            click.echo("To keep them good, give a key of your own with --key or LIMPET_ACCESS_KEY.")

    with user_errors():
        options = ServiceOptions() if config is None else load_options(config)
        options = dataclasses.replace(
            options,
            access_key=access_key or options.access_key,
            secondary_access_key=secondary_access_key or options.secondary_access_key,
        )
        options = with_hubs(options, [(name, HubOptions(anonymous=True)) for name in anonymous_hubs])
        # The first handler on the command line is the first to be asked.
        options = with_hubs(options, [parse_event_handler(text) for text in reversed(event_handlers)])
        context, made = certificate_context(https, certificate, certificate_key, host)
        serve(options, host, port, ssl=context, on_start=ready)
    with suppress(OSError):  # its terminal is gone
        click.echo("Stopped.")


@cli.command("token")
@token_options
def token_command(connection_string: str, hub: str, **grant: Any) -> None:
    """Print an access token for a client."""
    with user_errors():
        click.echo(mint_client_token(connection_string, hub, **grant))


@cli.command("url")
@token_options
def url_command(connection_string: str, hub: str, **grant: Any) -> None:
    """Print a client URL, with a token in it."""
    with user_errors():
        click.echo(client_url(connection_string, hub, **grant))


_metadata_option = click.option(
    "--metadata", metavar="KEY=VALUE", multiple=True, help="A name and a value that accompany the data; repeatable."
)


@cli.command("sub")
@client_options
@click.argument("groups", metavar="GROUP...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many messages.")
@click.option("--json", "as_json", is_flag=True, help="Print each message as one line of JSON.")
@click.option("--streams", is_flag=True, help="Print streams alone, fragment by fragment; --count counts streams.")
@verbose_option
def sub_command(
    source: Source, groups: tuple[str, ...], count: int | None, as_json: bool, streams: bool, verbose: bool
) -> None:
    """Join GROUPs and print their messages, and messages from the server.

    Changes of the connection are reported on standard error. Ctrl-C, SIGTERM and SIGHUP close the connection; the exit
    status is 130, 143 or 129 then.
    """
    log_to_stderr(verbose)
    run((print_streams if streams else subscribe)(source.url(), groups, count, as_json))


@cli.command("pub")
@client_options
@click.argument("target", metavar="GROUP")
@click.argument("data", metavar="[DATA]...", nargs=-1)
@click.option("--event", is_flag=True, help="GROUP is the name of an event for the application server.")
@click.option("--stream", is_flag=True, help="Each DATA, or line, is a fragment of one stream.")
@click.option("--json", "as_json", is_flag=True, help="DATA is JSON instead of text.")
@_metadata_option
@click.option(
    "--ttl",
    metavar="SECONDS",
    type=float,
    help="The service drops what is not delivered after that time: at most 300, whole seconds (fractions are rounded "
    "up); 0: never.",
)
@verbose_option
def pub_command(
    source: Source,
    target: str,
    data: tuple[str, ...],
    event: bool,
    stream: bool,
    as_json: bool,
    metadata: tuple[str, ...],
    ttl: float | None,
    verbose: bool,
) -> None:
    """Send each DATA to GROUP and wait for the acknowledgement; without DATA, send each line of standard input."""
    log_to_stderr(verbose)
    if event and ttl is not None:
        raise click.UsageError("--ttl is for messages to a group: an event has no time to live")
    if stream:
        if event or metadata or ttl is not None:
            raise click.UsageError("--stream goes with none of --event, --metadata and --ttl")
        run(write_stream(source.url(), target, values_of(data, as_json)))
        return
    run(publish(source.url(), target, data, event, as_json, parse_metadata(metadata), ttl))


@cli.command("invoke")
@client_options
@click.argument("event", metavar="EVENT")
@click.argument("data", metavar="[DATA]", required=False)
@click.option("--json", "as_json", is_flag=True, help="DATA is JSON instead of text.")
@_metadata_option
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    default=60.0,
    show_default=True,
    help="How long to wait for a connection and the reply.",
)
@verbose_option
def invoke_command(
    source: Source,
    event: str,
    data: str | None,
    as_json: bool,
    metadata: tuple[str, ...],
    timeout: float,
    verbose: bool,
) -> None:
    """Call the application server's handler for EVENT, with DATA if it is given, and print the reply.

    The exit status is 1 without a reply; the error says whether the handler may have been called.
    """
    log_to_stderr(verbose)
    run(invoke(source.url(), event, data, as_json, parse_metadata(metadata), timeout))


@cli.command("state")
@client_options
@click.argument("group", metavar="GROUP")
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many lines.")
@click.option("--json", "as_json", is_flag=True, help="Print each change as one line of JSON.")
@verbose_option
def state_command(
    source: Source, group: str, pairs: tuple[str, ...], count: int | None, as_json: bool, verbose: bool
) -> None:
    """Print the states of the connections in GROUP, and each change of them.

    With KEY=VALUE, join GROUP first and set the own state there. It lasts until the command ends: Ctrl-C, SIGTERM and
    SIGHUP close the connection; the exit status is 130, 143 or 129 then.
    """
    log_to_stderr(verbose)
    run(show_states(source.url(), group, parse_state(pairs), count, as_json))


@cli.command("demo")
@click.option("--seconds", default=12.0, show_default=True, type=click.FloatRange(1, 300), help="How long to publish.")
@click.option("--rate", default=600, show_default=True, type=click.IntRange(1, 2000), help="Messages a second.")
@click.option("--subscribers", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--seed", type=int, help="Repeat an earlier schedule of cuts.")
@verbose_option
def demo_command(seconds: float, rate: int, subscribers: int, seed: int | None, verbose: bool) -> None:
    """Show that no message is lost: publish through connections that are cut again and again.

    All parts run on this machine: the local service, a publisher and subscribers over real sockets, and a proxy
    between them that cuts the connections. The exit status is 0 only if no message was lost, duplicated or out of
    order.
    """
    log_to_stderr(verbose)
    run(demo(seconds, rate, subscribers, seed))
