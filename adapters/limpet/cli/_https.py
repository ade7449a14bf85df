"""The certificate of ``limpet serve --https``, and the settings with which other programs trust it."""

from __future__ import annotations

import shlex
import ssl
import sys
from pathlib import Path

import click

from limpet.service import LocalCertificate
from limpet.service.certificates import ENVIRONMENT, server_context


def certificate_context(
    https: bool, certificate: str | None, key: str | None, host: str
) -> tuple[ssl.SSLContext | None, LocalCertificate | None]:
    """Return the context for the service, and the certificate if it was made here.

    Raises:
        click.UsageError: for a key without a certificate.
        OSError: if a certificate cannot be made.
        ValueError: for files without a usable certificate and key.
    """
    if certificate is not None:
        try:
            return server_context(certificate, key), None
        except ssl.SSLError as error:
            files = certificate if key is None else f"{certificate} and {key}"
            reason = error.reason or error
            hint = "" if key else "; if the key has a file of its own, name it with --certificate-key"
            raise ValueError(f"no certificate with its private key, both as PEM, in {files}: {reason}{hint}") from None
    if key is not None:
        raise click.UsageError("--certificate-key is the key of a --certificate: give both.")
    if not https:
        return None, None
    folder = Path(click.get_app_dir("limpet")) / "https"
    try:
        made = LocalCertificate.of_folder(folder, host)
        return made.ssl_context(), made
    except OSError as error:
        raise OSError(
            f"no certificate can be kept in {folder}: {error.strerror or error}. Give your own with --certificate."
        ) from error


def print_trust(certificate: LocalCertificate) -> None:
    """Print the environment variables that other programs need."""
    path = str(certificate.authority)
    command, value = ("set", path) if sys.platform == "win32" else ("export", shlex.quote(path))
    click.echo("The certificate is of an authority made on this machine. Programs trust it if they are started with")
    for name, readers in ENVIRONMENT.items():
        click.echo(f"  {command} {name}={value}")
        click.echo(f"      ({readers})")
    click.echo("The Python ones trust no other authority then: set them for programs that talk to this service.")
    click.echo("A browser warns of the certificate before it shows the page, until it trusts the authority, too.\n")
