"""Who the service lets in: forged, borrowed and confused tokens, and what their answers give away."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.service import ServiceOptions
from limpet.service._admission import Handshake, Refusal
from limpet.service._gateway import Gateway
from limpet.service.tokens import InvalidToken, TokenAuthority
from limpet_core.service import RELIABLE_JSON

KEY = "k" * 32
HERE = "http://localhost:8080"
AUDIENCE = f"{HERE}/client/hubs/chat"


def claims(**changes: Any) -> dict[str, Any]:
    return {"aud": AUDIENCE, "exp": int(time.time()) + 86_400} | changes


def signed(key: str = KEY, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def check(token: str) -> dict[str, Any]:
    return TokenAuthority(KEY).client_claims(token, (HERE,), "chat")


def without_signature(algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}."


def test_a_good_token_is_good() -> None:
    assert check(signed())["aud"] == AUDIENCE


BAD = {
    "alg none": without_signature("none"),
    "alg None": without_signature("None"),
    "alg HS256 without a signature": without_signature("HS256"),
    "alg of another kind": without_signature("RS256"),
    "alg that is a list": f"{part({'alg': ['HS256']})}.{part(claims())}.",
    "another algorithm with the right key": signed(KEY * 2, "HS512"),
    "another key": signed("x" * 32),
    "nearly the key": signed("k" * 31 + "K"),
    "another hub": signed(aud=f"{HERE}/client/hubs/other"),
    "a hub that begins alike": signed(aud=AUDIENCE + "2"),
    "another endpoint": signed(aud="http://elsewhere:8080/client/hubs/chat"),
    "another port": signed(aud="http://localhost:8081/client/hubs/chat"),
    "the REST API": signed(aud=f"{HERE}/api/hubs/chat/:send"),
    "no audience": signed(aud=[]),
    "expired": signed(exp=int(time.time()) - 400),
    "expiry beyond numbers": signed(exp=float("inf")),
    "expiry that is text": signed(exp="soon"),
    "not yet valid": signed(nbf=int(time.time()) + 3600),
    "a reconnection token": TokenAuthority(KEY).issue_reconnection_token("c1"),
    "a reconnection token of a connection named like the hub": TokenAuthority(KEY).issue_reconnection_token("chat"),
    "no token at all": "x",
    "nothing": "",
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
def test_a_bad_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        check(token)
    assert KEY not in str(caught.value)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_header_or_body_does_anything_but_be_refused(header: bytes, body: bytes) -> None:
    encoded = [base64.urlsafe_b64encode(text).rstrip(b"=").decode() for text in (header, body)]
    for token in (".".join([*encoded, ""]), ".".join([*encoded, "AAAA"]), header.decode("latin-1")):
        with pytest.raises(InvalidToken):
            check(token)


def test_every_bit_of_a_token_counts() -> None:
    good = signed()
    for index in range(0, len(good) - 1, 7):
        if good[index] != ".":
            with pytest.raises(InvalidToken):
                check(good[:index] + ("A" if good[index] != "A" else "B") + good[index + 1 :])


@pytest.mark.parametrize(
    "token",
    [
        TokenAuthority(KEY).issue_reconnection_token("c2"),
        TokenAuthority("x" * 32).issue_reconnection_token("c1"),
        signed(aud="c1"),  # no reconnection token: it has no issuer
        signed(),
        without_signature("none"),
        "",
    ],
)
def test_only_its_own_reconnection_token_recovers_a_connection(token: str) -> None:
    authority = TokenAuthority(KEY)
    assert authority.check_reconnection_token(authority.issue_reconnection_token("c1"), "c1")
    assert not authority.check_reconnection_token(token, "c1")


@pytest.mark.parametrize("ahead", [1, 3600])
def test_a_reconnection_token_of_a_node_whose_clock_is_ahead_recovers_a_connection(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, real = TokenAuthority(KEY), time.time
    monkeypatch.setattr("limpet.service.tokens.time.time", lambda: real() + ahead)
    token = authority.issue_reconnection_token("c1")
    monkeypatch.undo()
    assert authority.check_reconnection_token(token, "c1")


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    real = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append(a)
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    check(signed())
    assert compared


def handshake(origin: str, token: str) -> Handshake:
    return Handshake("chat", f"access_token={token}", origin, "", [RELIABLE_JSON], [])


@pytest.mark.parametrize(("endpoint", "let_in"), [(None, True), ("http://ours.example", False)])
def test_with_an_endpoint_of_its_own_the_host_header_does_not_choose_the_audience(
    endpoint: str | None, let_in: bool
) -> None:
    gateway = Gateway(ServiceOptions(access_key=KEY), endpoint)
    outcomes: list[object] = []
    gateway.admit(
        handshake("http://theirs.example", signed(aud="http://theirs.example/client/hubs/chat")), outcomes.append
    )
    assert isinstance(outcomes[0], Refusal) is not let_in


def test_keys_and_tokens_are_in_no_repr() -> None:
    options = ServiceOptions(access_key=KEY)
    gateway = Gateway(options, None)
    assert (
        KEY not in f"{options!r} {gateway!r} {gateway.identity.tokens!r} {gateway.identity.connection_string(HERE)!r}"
    )
