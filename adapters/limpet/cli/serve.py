"""``limpet serve``."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from limpet.cli._https import certificate_context, print_trust
from limpet.cli._key_file import PROJECT_KEY, key_or_content, project_key, shown
from limpet.cli._options import ALL_ROLES, verbose_option
from limpet.cli._parent import Parent
from limpet.cli._ready_file import kept_while_listening
from limpet.cli._running import log_to_stderr, user_errors
from limpet.service import (
    ClusterOptions,
    HubOptions,
    LocalCertificate,
    Service,
    ServiceOptions,
    follow_options,
    load_options,
)
from limpet.service import serve as run_service
from limpet.service.cluster import ClusterView
from limpet.service.config import parse_event_handler, with_hubs
from limpet_core.text import escape

# Of the option --key without a value; no command line or variable can hold it.
_OF_PROJECT = "\0"


@click.command("serve", short_help="Run the local service.")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="TOML file with the options of the service, its hubs and their event handlers. When it changes, the hubs and "
    "their event handlers change with it; a mistake in it is told, and changes nothing.",
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
    is_flag=False,
    flag_value=_OF_PROJECT,
    metavar="[KEY]",
    help="Key that signs tokens, at least 32 bytes. By default a new one for each start. Without KEY: one for the "
    f"project, which the first start writes to {PROJECT_KEY}; it is not printed. The private key of --certificate is "
    "--certificate-key.",
)
@click.option(
    "--key-file",
    "--access-key-file",
    "key_file",
    metavar="FILE",
    envvar="LIMPET_ACCESS_KEY_FILE",
    show_envvar=True,
    help="File with that key, such as a secret of a container, in place of --key; the key is not printed.",
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
@click.option(
    "--unvalidated-entra-tokens",
    is_flag=True,
    help="Accept tokens of Microsoft Entra for the REST API, from this machine, without validating them: for server "
    "SDKs with a TokenCredential, which need --https. Every program on this machine may do everything then.",
)
@click.option(
    "--ready-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write endpoint, connection string and client URLs to FILE, as JSON, when the service listens; remove it when "
    "the service ends.",
)
@click.option(
    "--cluster",
    "cluster_url",
    metavar="URL",
    envvar="LIMPET_CLUSTER",
    show_envvar=True,
    help="Be a node of a cluster, whose nodes share clients and groups through a log in Redis 6.2 or Valkey: "
    "redis://[user:password@]host[:port][,host...], rediss://... for TLS, or redis+sentinel://host[,host...]/name. All "
    "nodes need the same key and the same options. A URL with a password is better kept in the variable.",
)
@click.option("--node", metavar="NAME", help="With --cluster: name of this node, for people; by default the machine's.")
@click.option("--cell", metavar="NAME", help="With --cluster: name of the cluster, since an engine can have several.")
@click.option(
    "--strict",
    is_flag=True,
    help="With --cluster: serve nobody while no replica follows the primary of the engine, since what only one server "
    "has may be lost with it.",
)
@click.option("--with-parent", is_flag=True, help="Stop when the process that started this one has ended.")
@verbose_option
def serve(
    config: str | None,
    host: str,
    port: int,
    https: bool,
    certificate: str | None,
    certificate_key: str | None,
    hub: str,
    access_key: str | None,
    key_file: str | None,
    secondary_access_key: str | None,
    anonymous_hubs: tuple[str, ...],
    event_handlers: tuple[str, ...],
    unvalidated_entra_tokens: bool,
    ready_file: str | None,
    cluster_url: str | None,
    node: str | None,
    cell: str | None,
    strict: bool,
    with_parent: bool,
    verbose: bool,
) -> None:
    """Run the local service until Ctrl-C, SIGTERM or SIGHUP.

    The exit status is 0 then: to be stopped is how a service ends. Clients are told that it goes away (close code
    1001). A node that its cluster does not take, or goes on without, ends with status 1: start it again.
    """
    log_to_stderr(verbose)

    parent = Parent() if with_parent else None  # at once: it may end while the service starts
    with user_errors():
        cluster = _cluster(cluster_url, node, cell, strict=strict)
        if cluster is not None and not verbose:  # that a problem is over, too, and who comes and goes
            logging.getLogger("limpet.service.cluster").setLevel(logging.INFO)
        file_of_key = key_file
        if access_key == _OF_PROJECT and key_file is None:
            access_key, file_of_key = project_key(), PROJECT_KEY
        key = key_or_content(access_key, key_file)

        def read_options() -> ServiceOptions:
            options = ServiceOptions() if config is None else load_options(config)
            options = dataclasses.replace(
                options,
                access_key=key or options.access_key,
                secondary_access_key=secondary_access_key or options.secondary_access_key,
                unvalidated_entra_tokens=unvalidated_entra_tokens or options.unvalidated_entra_tokens,
            )
            options = with_hubs(options, [(name, HubOptions(anonymous=True)) for name in anonymous_hubs])
            # The first handler on the command line is the first to be asked.
            return with_hubs(options, [parse_event_handler(text) for text in reversed(event_handlers)])

        options = read_options()
        services: list[Service] = []

        context, made = certificate_context(https, certificate, certificate_key, host)
        with kept_while_listening(ready_file) as file:

            def ready(service: Service) -> None:
                services.append(service)
                if file is not None:
                    file.write(_where(service, hub, made))
                _print_where(service, hub, made, file_of_key)

            run_service(
                options,
                host,
                port,
                ssl=context,
                on_start=ready,
                until=lambda: _runs(services[0], config, read_options, parent),
                cluster=cluster,
            )
    with suppress(OSError):  # its terminal is gone
        click.echo("Stopped.")


def _cluster(url: str | None, node: str | None, cell: str | None, *, strict: bool) -> ClusterOptions | None:
    """Return the place in a cluster that the options say; ``None``: the service is alone."""
    if not url:
        for name, given in (("--node", node is not None), ("--cell", cell is not None), ("--strict", strict)):
            if given:
                raise click.UsageError(f"{name} is for a node of a cluster: give --cluster, too.")
        return None
    options = ClusterOptions(url=url, strict=strict)
    return dataclasses.replace(
        options, name=options.name if node is None else node, cell=options.cell if cell is None else cell
    )


async def _runs(
    service: Service, config: str | None, read: Callable[[], ServiceOptions], parent: Parent | None
) -> None:
    """Take what changes in the file of --config, until the parent process has ended."""
    async with asyncio.TaskGroup() as tasks:
        follow = None if config is None else follow_options(service, config, read=read, on_change=lambda: _tell(config))
        following = None if follow is None else tasks.create_task(follow)
        await (asyncio.Event().wait() if parent is None else parent.ended())
        if following is not None:
            following.cancel()


def _tell(config: str) -> None:
    with suppress(OSError):  # the terminal is gone
        click.echo(f"{config} has changed, and was read again.")


def _client_urls(service: Service, hub: str) -> dict[str, str]:
    return {user: service.client_url(hub, user_id=user, roles=ALL_ROLES) for user in ("alice", "bob")}


def _where(service: Service, hub: str, made: LocalCertificate | None) -> dict[str, Any]:
    """Return the content of the file of --ready-file."""
    return {
        "pid": os.getpid(),
        "endpoint": service.endpoint,
        "connectionString": service.connection_string,
        "hub": hub,
        "urls": _client_urls(service, hub),
        "traceUrl": service.trace_url,
        "certificateAuthority": None if made is None else str(made.authority),
    }


def _print_cluster(cluster: ClusterView) -> None:
    """Print of what this is a node. The servers are named without user and password."""
    nodes = ", ".join(escape(each.name) for each in cluster.nodes)
    click.echo(f"It is the node {escape(cluster.node)} of the cluster {escape(cluster.cell)}, in which are: {nodes}.")
    if cluster.log is not None:
        reads = f"reads it from the {cluster.log.reading_from} {cluster.log.source or ''}".rstrip()
        click.echo(f"It writes the log of the cluster to {cluster.log.primary}, and {reads}.")
        if cluster.log.problem is not None:
            click.echo(f"Mind: {escape(cluster.log.problem)}.")
    click.echo()


def _print_where(service: Service, hub: str, made: LocalCertificate | None, file_of_key: str | None) -> None:
    click.echo(f"Limpet's local service listens on {service.endpoint} (Ctrl-C stops it).\n")
    if service.cluster is not None:
        _print_cluster(service.cluster)
    if service.trace_url is not None:
        click.echo("Watch it, and try it, in a browser:")
        click.echo(f"  {service.trace_url}\n")
    if made is not None:
        print_trust(made)
    if file_of_key is not None:  # not printed: this may be kept as a log, such as that of a container
        key = service.options.access_key or ""
        whose = "of this project" if file_of_key == PROJECT_KEY else "of this service"
        click.echo(f"The access key {whose}, {shown(key)}, is in {escape(os.path.abspath(file_of_key))}.")
        click.echo("Connection string, for server SDKs and for `limpet url`, as a line for a shell in this folder:")
        path = os.path.join(".", file_of_key) if file_of_key.startswith("-") else file_of_key  # else an option of cat
        hidden = service.connection_string.replace(key, f"$(cat {shlex.quote(path)})")
        click.echo(f'  export LIMPET_CONNECTION_STRING="{escape(hidden)}"\n')
    else:
        click.echo("Connection string, for server SDKs and for `limpet url`:")
        click.echo(f"  {service.connection_string}\n")
    if service.endpoint.startswith("http:"):
        click.echo("Microsoft's JavaScript server SDK refuses http:// unless it gets { allowInsecureConnection: true }")
        click.echo("as its last argument. Or serve https: start again with --https.\n")
    click.echo(f"Client URLs for the hub {hub!r}. They may join and send to every group; connect within an hour.")
    for user, url in _client_urls(service, hub).items():
        click.echo(f"As user {user}:")
        click.echo(f"  {url}")
    if service.options.access_key is None:
        click.echo(
            "\nThe access key was made for this start: the next one refuses these URLs and this connection string."
        )
        click.echo(
            "To keep them good, give a key of your own with --key or LIMPET_ACCESS_KEY; --key alone makes one for"
        )
        click.echo("this folder, and keeps it.")
