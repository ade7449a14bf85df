"""The URL of an engine: which servers, with which password, over TLS or not."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from limpet_core.redaction import Secrets
from limpet_core.text import one_line

_FORMS: Final = (
    "redis://[user:password@]host[:port][,host[:port]...][/database], rediss://... for TLS, "
    "or redis+sentinel://[user:password@]host[:port][,...]/name of the primary[/database]"
)
_SCHEMES: Final = {
    "redis": (False, False),
    "rediss": (True, False),
    "valkey": (False, False),
    "valkeys": (True, False),
    "redis+sentinel": (False, True),
    "rediss+sentinel": (True, True),
}
"""Whether it is TLS, and whether it is Sentinel."""

_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
_MAX_HOSTS: Final = 16


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """How to connect to a server, whatever its address. Its repr shows no password."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def secrets(self) -> Secrets:
        """The password, for redaction."""
        return Secrets(*([self.password] if self.password else []))


@dataclass(frozen=True, slots=True)
class EngineUrl:
    """What a URL says."""

    addresses: tuple[Address, ...]
    """Servers of the engine; with Sentinel, the sentinels."""
    login: Login
    sentinel_name: str | None = None
    """The name of the primary that sentinels know; None without Sentinel."""
    sentinel_login: Login = Login()


def parse_url(url: str) -> EngineUrl:
    """Read a URL as redis-py does, with several hosts and Sentinel besides.

    Raises:
        ValueError: the URL is none of the forms. The text does not quote its password.
        OSError: a file of certificates cannot be read.
    """
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _SCHEMES:
        known = "it does not begin with one of " + ", ".join(f"{each}://" for each in _SCHEMES)
        raise _bad("unix sockets are not supported" if scheme == "unix" else known)
    is_tls, is_sentinel = _SCHEMES[scheme]
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError as error:
        raise _bad("a host in brackets is not closed, or is no IPv6 address") from error
    if parts.fragment or "#" in rest:
        raise _bad("it has a fragment; write # in a password as %23")
    user, _, hosts = parts.netloc.rpartition("@")
    username, colon, password = user.partition(":")
    options = _options(parts.query, is_tls, is_sentinel)
    path = [unquote(each) for each in parts.path.split("/")[1:]]
    name: str | None = None
    if is_sentinel:
        if not path or not path[0]:
            raise _bad("the name under which the sentinels know the primary is missing")
        name = path.pop(0)
    tls = _tls(options) if is_tls else None
    login = Login(unquote(username) or None, unquote(password) if colon else None, _database(path), tls)
    if login.username is not None and login.password is None:
        raise _bad("a user without a password; a password alone is written :password@")
    addresses = tuple(dict.fromkeys(_address(each, 26379 if is_sentinel else 6379) for each in hosts.split(",")))
    if len(addresses) > _MAX_HOSTS:
        raise _bad(f"more than {_MAX_HOSTS} hosts")
    sentinel_login = Login(options.get("sentinel_username"), options.get("sentinel_password"), 0, tls)
    return EngineUrl(addresses, login, name, sentinel_login)


def _bad(why: str) -> ValueError:
    return ValueError(f"not the URL of an engine: {why}. The forms are {_FORMS}")


def _address(text: str, port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, given = parts.hostname, parts.port
    except ValueError as error:
        raise _bad(f"the host {one_line(repr(text), 100)} is none, or its port no number up to 65535") from error
    if not host or parts.username is not None or given == 0 or (text.endswith(":") and not text.startswith("[")):
        raise _bad("a host is missing between //, commas and /" if not host else "a port is missing or 0")
    return Address(host, port if given is None else given)


def _database(path: list[str]) -> int:
    if not path or path == [""]:
        return 0
    (number, *more) = path
    if more or not (number.isascii() and number.isdigit() and len(number) < 10):
        raise _bad(f"the database {one_line(repr('/'.join(path)), 100)} is no number")
    return int(number)


def _options(query: str, is_tls: bool, is_sentinel: bool) -> dict[str, str]:
    allowed = (*(_TLS_OPTIONS if is_tls else ()), *(_SENTINEL_OPTIONS if is_sentinel else ()))
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in allowed:
            shown = one_line(repr(name), 60)
            raise _bad(f"{shown} is no option of it; its options are: {', '.join(allowed) or 'none'}")
    return options


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    demanded = options.get("ssl_cert_reqs", "required")
    if demanded not in ("required", "none"):
        raise _bad("ssl_cert_reqs is required or none")
    checked = options.get("ssl_check_hostname", "true").lower()
    if checked not in ("true", "false"):
        raise _bad("ssl_check_hostname is true or false")
    context.check_hostname = checked == "true" and demanded == "required"
    if demanded == "none":
        context.verify_mode = ssl.CERT_NONE
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    elif "ssl_keyfile" in options:
        raise _bad("ssl_keyfile needs ssl_certfile")
    return context
