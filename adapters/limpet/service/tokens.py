"""Signed tokens: access tokens and reconnection tokens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import jwt

from limpet_core.protocol.names import hub_identity, is_text
from limpet_core.service import (
    ClientGrant,
    ConnectionString,
    audience_matches,
    client_audience,
    client_claims,
    client_endpoint,
    is_entra_audience,
    is_group_name,
    request_audience_matches,
)
from limpet_core.text import one_line

_ALGORITHM = "HS256"
_LEEWAY = 300.0
_ISSUER = "https://webpubsub.azure.com"
_WITHOUT_ENTRA = (
    "sign tokens of clients with the access key, as the server SDKs do, or give this one the audience "
    "https://webpubsub.azure.com"
)
_RECONNECTION_LIFETIME = 7 * 24 * 3600

_OTHER_KEY = (
    "it is signed with another access key than that of this service (`limpet serve` makes a new key for each start, "
    "unless it has --key)"
)
_NO_TOKEN = "it is not a JSON Web Token that is signed with HS256"

_ENTRA_HINT = (
    "the service cannot validate tokens of Microsoft Entra: sign with the access key, or on this machine start it with "
    "`limpet serve --unvalidated-entra-tokens`"
)

# The cloud does not look at these (emulator), nor do all versions of PyJWT: the readers of claims say what is wrong.
_UNCHECKED: dict[str, Any] = {"verify_iat": False, "verify_sub": False, "verify_jti": False}

# The caller compares the audience.
_ANY_AUDIENCE: dict[str, Any] = {
    "leeway": _LEEWAY,
    "options": {"require": ["exp", "aud"], "verify_aud": False, **_UNCHECKED},
}

_OF_RECONNECTION: dict[str, Any] = {"require": ["exp", "aud", "iss"], "verify_nbf": False}

_TIMES_ALONE: dict[str, Any] = {
    "leeway": _LEEWAY,
    "options": {"require": ["exp"], "verify_signature": False, "verify_exp": True, "verify_nbf": True},
}


class InvalidToken(Exception):
    """A token is malformed, badly signed, expired or for another audience; the message says which."""


def mint_client_token(
    connection_string: str | ConnectionString,
    hub: str = "chat",
    *,
    user_id: str | None = None,
    roles: Iterable[str] = (),
    groups: Iterable[str] = (),
    expires_in: float = 3600.0,
) -> str:
    """Return a signed token for a client of ``hub`` (Azure docs).

    Args:
        connection_string: of this or any other Web PubSub service.
        hub: the hub's name.
        user_id: the user of the client; ``None``: anonymous.
        roles: such as ``webpubsub.joinLeaveGroup`` or ``webpubsub.sendToGroup.<group>``.
        groups: joined at once, which needs no role.
        expires_in: seconds in which the client may connect; an open connection stays open. The local service accepts
            a token for five more minutes, so that clocks may differ.

    Raises:
        ValueError: for an illegal connection string, hub, user id or group name, or ``expires_in`` not positive.
        TypeError: if a single string is given as roles or groups.
    """
    connection = _parsed(connection_string)
    client_endpoint(connection.endpoint, hub)
    if isinstance(roles, str) or isinstance(groups, str):
        raise TypeError("roles and groups are lists of strings, not a single string")
    if not expires_in > 0:
        raise ValueError("expires_in is a positive number of seconds")
    if user_id is not None and not is_text(user_id):
        raise ValueError("user_id holds half of a surrogate pair")
    grant = ClientGrant(user_id, tuple(roles), tuple(groups))
    for group in grant.groups:
        if not is_group_name(group):
            raise ValueError("a group name has 1 to 1024 characters, not all white space")
    now = int(time.time())
    claims: dict[str, Any] = {
        "aud": client_audience(connection.endpoint, hub_identity(hub)),
        "iat": now,
        "exp": now + max(int(expires_in), 1),
        **client_claims(grant),
    }
    return jwt.encode(claims, connection.access_key, _ALGORITHM)


def client_url(
    connection_string: str | ConnectionString,
    hub: str = "chat",
    *,
    user_id: str | None = None,
    roles: Iterable[str] = (),
    groups: Iterable[str] = (),
    expires_in: float = 3600.0,
) -> str:
    """Return the URL for a client, with a token; arguments and errors of :func:`mint_client_token`."""
    connection = _parsed(connection_string)
    token = mint_client_token(connection, hub, user_id=user_id, roles=roles, groups=groups, expires_in=expires_in)
    return f"{client_endpoint(connection.endpoint, hub)}?access_token={quote(token)}"


def _parsed(connection_string: str | ConnectionString) -> ConnectionString:
    if isinstance(connection_string, ConnectionString):
        return connection_string
    return ConnectionString.parse(connection_string)


def _unverified_audience(token: str) -> object:
    """Return the audience in a token, which anyone may have made."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return claims.get("aud")


def _check_times(token: str) -> None:
    """Check that a token counts now, and nothing else."""
    try:
        jwt.decode(token, **_TIMES_ALONE)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise InvalidToken(_said(error)) from None


def _said(error: Exception) -> str:
    """Return what is wrong with a token, for people who have read no description of tokens."""
    if isinstance(error, jwt.ExpiredSignatureError):
        return "it has expired"
    if isinstance(error, jwt.InvalidSignatureError):
        return _OTHER_KEY
    if isinstance(error, (jwt.DecodeError, jwt.InvalidAlgorithmError)):
        return _NO_TOKEN
    # The error may quote the header of the token, which is not verified.
    return one_line(str(error))


class TokenAuthority:
    """Signs and verifies the tokens of one service.

    Signs with the first access key and accepts signatures of any. PyJWT compares signatures in constant time
    (``hmac.compare_digest``).
    """

    def __init__(self, *access_keys: str) -> None:
        self._keys = access_keys

    def client_claims(self, token: str, endpoints: tuple[str, ...], hub: str) -> dict[str, Any]:
        """Return the claims of a client's token for a hub at one of the endpoints.

        Five minutes of clock skew are tolerated (emulator).

        Raises:
            InvalidToken: if the token is not valid, or for another service or hub.
        """
        claims = self._decode(token, **_ANY_AUDIENCE)
        if not audience_matches(claims["aud"], endpoints, hub):
            raise InvalidToken("it is for another service or hub")
        return claims

    def check_request(
        self,
        token: str,
        endpoints: tuple[str, ...],
        path: str,
        *,
        makes_tokens: bool = False,
        unvalidated_entra: bool = False,
    ) -> None:
        """Check the token of a request to the data plane at one of the endpoints (Azure docs).

        Five minutes of clock skew are tolerated (emulator).

        Args:
            token: of the request.
            endpoints: the URLs of the service.
            path: below the endpoint, percent-encoded.
            makes_tokens: whether the request is for a client's token. Its audience must be that of Microsoft Entra
                tokens: who has the access key makes tokens without the service (emulator).
            unvalidated_entra: accept a token with the audience of Microsoft Entra and any signature.

        Raises:
            InvalidToken: if the token is not valid, or for another request.
        """
        if unvalidated_entra and is_entra_audience(_unverified_audience(token)):
            _check_times(token)
            return
        try:
            audience = self._decode(token, **_ANY_AUDIENCE)["aud"]
        except InvalidToken as error:
            is_entra = is_entra_audience(_unverified_audience(token))
            raise InvalidToken(f"{error}; {_ENTRA_HINT}" if is_entra else str(error)) from None
        if not request_audience_matches(audience, endpoints, path):
            raise InvalidToken("it is for another request: its audience is not this URL")
        if makes_tokens and not is_entra_audience(audience):
            raise InvalidToken(f"{path.rpartition('/')[2]} is for Microsoft Entra tokens: {_WITHOUT_ENTRA}")

    def issue_reconnection_token(self, connection_id: str) -> str:
        """Return a token that recovers a connection, for seven days (client-spec 2.2, emulator)."""
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "aud": connection_id,
            "jti": secrets.token_urlsafe(12),
            "nbf": now,
            "exp": now + _RECONNECTION_LIFETIME,
        }
        return jwt.encode(claims, self._keys[0], _ALGORITHM)

    def check_reconnection_token(self, token: str, connection_id: str) -> bool:
        """Return whether a token recovers this connection; after its end no clock skew is tolerated (emulator).

        It counts from its making on, though it may come from a node of a cluster whose clock is ahead.
        """
        try:
            self._decode(token, audience=connection_id, issuer=_ISSUER, options=_OF_RECONNECTION)
        except InvalidToken:
            return False
        return True

    def _decode(self, token: str, **rules: Any) -> dict[str, Any]:
        reason = "it is not signed"
        for key in self._keys:
            try:
                claims: dict[str, Any] = jwt.decode(token, key, algorithms=[_ALGORITHM], **rules)
            except jwt.InvalidSignatureError as error:
                reason = _said(error)
            except (jwt.PyJWTError, ValueError, RecursionError) as error:
                raise InvalidToken(_said(error)) from None
            else:
                return claims
        raise InvalidToken(reason)
