"""``limpet token`` and ``limpet url``."""

from __future__ import annotations

from typing import Any

import click

from limpet.cli._options import token_options
from limpet.cli._running import user_errors
from limpet.service import client_url, mint_client_token


@click.command("token")
@token_options
def token(connection_string: str, hub: str, **grant: Any) -> None:
    """Print an access token for a client."""
    with user_errors():
        click.echo(mint_client_token(connection_string, hub, **grant))


@click.command("url")
@token_options
def url(connection_string: str, hub: str, **grant: Any) -> None:
    """Print a client URL, with a token in it."""
    with user_errors():
        click.echo(client_url(connection_string, hub, **grant))
