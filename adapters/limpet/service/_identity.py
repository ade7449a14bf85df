"""The identity of a service: its access keys, its tokens and its URLs."""

from __future__ import annotations

import secrets

from limpet.service.options import ServiceOptions
from limpet.service.tokens import TokenAuthority
from limpet_core.service import ConnectionString, is_endpoint


class Identity:
    """The access keys, the tokens and the URLs of one service.

    Attributes:
        access_keys: the primary one first.
        endpoint: the configured URL, if any.
        own_endpoint: the URL at which the service itself listens, if it does.
        tokens: signs and verifies tokens with the access keys.
        page_key: signs the continuation tokens of lists, as long as this service runs.

    Raises:
        ValueError: if ``endpoint`` is not a URL of a service.
    """

    def __init__(self, options: ServiceOptions, endpoint: str | None) -> None:
        if endpoint is not None and not is_endpoint(endpoint):
            raise ValueError("the endpoint of the service is an http or https URL: host, port and path, nothing else")
        access_key = options.access_key or secrets.token_urlsafe(48)
        self.access_keys: tuple[str, ...] = tuple(
            key for key in (access_key, options.secondary_access_key) if key is not None
        )
        self.tokens: TokenAuthority = TokenAuthority(*self.access_keys)
        self.page_key: bytes = secrets.token_bytes(32)
        self.endpoint: str | None = endpoint
        self.own_endpoint: str | None = None

    def accepted_endpoints(self, origin: str, own_urls: tuple[str, ...]) -> tuple[str, ...]:
        """Return the URLs with which the audience of a token may begin.

        With a configured endpoint that is the only one. Without one, the URL that the peer used is as good as those of
        the address at which the request arrived: localhost for 127.0.0.1, or the name of a proxy in front.
        """
        if self.endpoint is not None:
            return (self.endpoint,)
        return (*(() if self.own_endpoint is None else (self.own_endpoint,)), origin, *own_urls)

    def signing_endpoint(self, own_urls: tuple[str, ...]) -> str:
        """Return the URL to sign tokens for: an accepted endpoint that no peer has chosen."""
        return self.endpoint or self.own_endpoint or own_urls[0]

    def connection_string(self, endpoint: str) -> ConnectionString:
        """Return the connection string of this service at ``endpoint``."""
        return ConnectionString(endpoint.rstrip("/"), self.access_keys[0])
