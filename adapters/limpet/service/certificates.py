"""A certificate for https on this machine, of an authority that is made for it and thrown away."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from limpet._extras import extra
from limpet_core.text import one_line

ENVIRONMENT: Final = {
    "NODE_EXTRA_CA_CERTS": "Node",
    "SSL_CERT_FILE": "Python: Limpet, aiohttp, httpx, websockets",
    "REQUESTS_CA_BUNDLE": "Python: requests, and Microsoft's server SDK over it",
}
"""The environment variables that name the file of an authority to trust, and the programs that read them."""

_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")
_LIFETIME: Final = timedelta(days=365)
_RENEWAL: Final = timedelta(days=7)
_ATTEMPTS: Final = 5

# Two hyphens after two letters are reserved; "xn--" is a name of other letters (RFC 5891 4.2.3.1).
_LABEL: Final = re.compile(r"(?!(?!xn)..--)[^\W_](?:[^\W_]|-(?!\Z)){0,62}")

_LOGGER = logging.getLogger("limpet.service")


@dataclass(frozen=True)
class LocalCertificate:
    """A certificate for the names of this machine: ``Service(ssl=LocalCertificate.of_folder(path).ssl_context())``.

    The key of its authority is never written: nobody, not even its owner, can issue another certificate that programs
    trust who trust this authority.

    Attributes:
        authority: the file with the certificate of the authority, for clients: see ``ENVIRONMENT``.
        server: the file with the certificate of the server and its private key.
    """

    authority: Path
    server: Path

    @classmethod
    def of_folder(cls, folder: str | os.PathLike[str], host: str = "127.0.0.1") -> LocalCertificate:
        """Return the certificate in a folder; make it if there is none that is good for another week.

        It is good for a year, for ``localhost``, ``127.0.0.1``, ``::1`` and ``host``. Its files have the mode 0600, in
        a folder of the mode 0700 below ``folder``; a key that others could read is replaced.

        Args:
            folder: made, with the mode 0700, if it is missing.
            host: the address to listen on; for all addresses (``0.0.0.0``, ``::``) the name of this machine counts. One
                that cannot be in a certificate is left out: the log has a warning.

        Raises:
            OSError: if a folder or file cannot be made or replaced.
            MissingExtra: if there is no trustme: ``pip install 'limpet[https]'``.
        """
        own = socket.gethostname() if host in ("0.0.0.0", "::") else host
        names: tuple[str, ...] = _THIS_MACHINE
        if _is_certifiable(own):
            names = tuple(dict.fromkeys((*_THIS_MACHINE, own)))
        else:
            _LOGGER.warning("the certificate is not for %r, which is no name of a host: use localhost", one_line(own))
        base = Path(folder)
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = base / ("localhost" if names == _THIS_MACHINE else own.replace(":", "_"))
        found = cls(place / "authority.pem", place / "server.pem")
        for _ in range(_ATTEMPTS):
            judged = _inode(place)
            if found._is_good(names):
                return found
            _replace(place, judged, names)
        raise OSError(f"no good certificate could be made in {place}: see the log, or remove the folder")

    def ssl_context(self) -> ssl.SSLContext:
        """Return the context for :class:`Service` and :func:`serve`.

        Raises:
            OSError: if the files are gone; :exc:`ssl.SSLError` if they are damaged.
        """
        return server_context(self.server)

    def _is_good(self, names: Sequence[str]) -> bool:
        try:
            if not all(map(_is_private, (self.server.parent, self.server))):
                _LOGGER.warning("%s could be read by others: the certificate is made anew", self.server)
                return False
            server = self.ssl_context()
            client = ssl.create_default_context(cafile=str(self.authority))
            return all(_is_trusted(server, client, name) for name in names)
        except FileNotFoundError:
            return False
        except OSError as error:  # ssl.SSLError, too
            _LOGGER.warning("the certificate in %s is made anew: %s", self.server, error)
            return False


def server_context(certificate: str | os.PathLike[str], key: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
    """Return the context of a server with your own certificate.

    Args:
        certificate: the PEM file with the certificate and its chain.
        key: the PEM file with the private key; ``None``: it is in the first file as well.

    Raises:
        OSError: if a file cannot be read; :exc:`ssl.SSLError` if it holds nothing usable.
        ValueError: if the key needs a passphrase.
    """

    def refuse() -> str:
        # Without this, OpenSSL asks at the terminal, if there is one.
        raise ValueError(
            f"the private key in {key or certificate} needs a passphrase, which a service cannot ask for: "
            "write it to a file without one, for example with: openssl pkey -in FILE -out NEW_FILE"
        )

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, refuse)
    return context


def _is_certifiable(host: str) -> bool:
    """Return whether a certificate can be for a host: an address, or a name of letters, digits and hyphens (RFC 1123).

    Underscores are allowed in names of DNS, and the names of containers have them, but certificates cannot.
    """
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return "%" not in host
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.removesuffix(".").split("."))


def _is_private(path: Path) -> bool:
    if sys.platform == "win32":
        return True
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _is_trusted(server_side: ssl.SSLContext, client_side: ssl.SSLContext, name: str) -> bool:
    """Return whether a client trusts a server, now and in a week: they shake hands in memory, as on a network.

    Raises:
        ssl.SSLError: if it does not.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server) * 3:  # TLS 1.2 takes one turn more than 1.3
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    certificate = client.getpeercert() or {}
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return time.time() + _RENEWAL.total_seconds() < ends


def _inode(place: Path) -> int | None:
    with suppress(FileNotFoundError):
        return place.stat().st_ino
    return None


def _replace(place: Path, judged: int | None, names: Sequence[str]) -> None:
    """Put a new certificate in the place of the one that was judged, or of none, all at once.

    Of processes that do so at the same time, one puts its certificate there, and the others find it.
    """
    with extra("https"):
        import trustme

    staged = Path(tempfile.mkdtemp(prefix="new-", dir=place.parent))  # with the mode 0700
    try:
        authority = trustme.CA(organization_name="Limpet's local service", organization_unit_name="for this machine")
        until = datetime.now(UTC).replace(tzinfo=None) + _LIFETIME
        leaf = authority.issue_cert(*names, not_after=until)
        _write(staged / "authority.pem", authority.cert_pem.bytes())
        _write(staged / "server.pem", leaf.private_key_and_cert_chain_pem.bytes())
        if judged is not None and _inode(place) == judged:
            place.rename(staged / "old")
        with suppress(OSError):  # not empty: the certificate of another process
            staged.rename(place)
    finally:
        shutil.rmtree(place / "old", ignore_errors=True)
        shutil.rmtree(staged, ignore_errors=True)


def _write(path: Path, contents: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(contents)
