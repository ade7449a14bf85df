"""Connection strings, and the claims of client tokens."""

from __future__ import annotations

import pytest

from limpet_core.service import (
    ClientGrant,
    ConnectionString,
    InvalidClaims,
    client_audience,
    client_claims,
    client_endpoint,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Endpoint=https://a.example;AccessKey=k=;Version=1.0;", ConnectionString("https://a.example", "k=")),
        (" accesskey = k ; ENDPOINT = http://a.example/ ", ConnectionString("http://a.example", "k")),
        ("Endpoint=http://a.example/sub;AccessKey=k;Port=81", ConnectionString("http://a.example:81/sub", "k")),
        ("Endpoint=http://[::1]:8080;AccessKey=k;Port=82", ConnectionString("http://[::1]:82", "k")),
    ],
)
def test_a_connection_string_is_read(text: str, expected: ConnectionString) -> None:
    assert ConnectionString.parse(text) == expected
    assert ConnectionString.parse(expected.build()) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("https://a.example/client/hubs/chat?access_token=secret", "is a URL"),
        ("Endpoint=https://a.example;secret", "^not a connection string: expected Endpoint="),
        ("foo", "^not a connection string: expected Endpoint="),
        ("AccessKey=secret", "no Endpoint"),
        ("Endpoint=https://a.example", "no AccessKey"),
        ("Endpoint=ftp://a.example;AccessKey=secret", "http or https"),
        ("Endpoint=https://;AccessKey=secret", "no Endpoint|http or https"),
        ("Endpoint=http://user@127.0.0.1;AccessKey=secret", "nothing else"),
        ("Endpoint=http://127.0.0.1:80:90;AccessKey=secret", "nothing else"),
        ("Endpoint=http://127.0.0.1:80:90;AccessKey=secret;Port=80", "nothing else"),
        ("Endpoint=http://[::1;AccessKey=secret", "nothing else"),
        ("Endpoint=https://a.example?x;AccessKey=secret", "nothing else"),
        ("Endpoint=https://a.example;AccessKey=secret;Port=0", "between 1 and 65535"),
        ("Endpoint=https://a.example;AccessKey=secret;Port=65536", "between 1 and 65535"),
        ("Endpoint=https://a.example;AccessKey=secret;Port=x", "between 1 and 65535"),
    ],
)
def test_a_wrong_connection_string_is_refused_without_its_key(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        ConnectionString.parse(text)
    assert "secret" not in str(caught.value)


def test_the_key_is_not_in_the_repr() -> None:
    assert repr(ConnectionString("http://a.example", "secret")) == (
        "ConnectionString(endpoint='http://a.example', access_key=...)"
    )


def test_the_audience_is_http_and_the_endpoint_a_websocket() -> None:
    assert client_audience("https://a.example/", "chat") == "https://a.example/client/hubs/chat"
    assert client_endpoint("HTTPS://a.example/", "chat") == "wss://a.example/client/hubs/chat"
    assert client_endpoint("http://a.example/sub", "chat") == "ws://a.example/sub/client/hubs/chat"
    with pytest.raises(ValueError, match="not a hub name"):
        client_endpoint("http://a.example", "1st")


@pytest.mark.parametrize("grant", [ClientGrant(), ClientGrant("ann"), ClientGrant("ann", ("role", "other"), ("room",))])
def test_claims_entitle_to_the_grant_that_they_are_made_for(grant: ClientGrant) -> None:
    assert ClientGrant.from_claims(client_claims(grant)) == grant


def test_a_single_string_is_a_list_of_one_and_an_empty_user_stays_empty() -> None:
    claims = {"sub": "", "role": "webpubsub.sendToGroup", "webpubsub.group": []}
    assert ClientGrant.from_claims(claims) == ClientGrant("", roles=("webpubsub.sendToGroup",))


ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"roles": "a"}, ("a",)),
        ({ROLE: ["a", "b"]}, ("a", "b")),
        ({ROLE: "c", "roles": ["b", "a"], "role": ["a", "a"]}, ("a", "b", "c")),
        ({"role": [], "roles": ["a"]}, ("a",)),
        ({"Role": "a", "roles": None}, ()),
    ],
)
def test_roles_may_be_named_by_other_claims_and_each_counts_once(
    claims: dict[str, object], roles: tuple[str, ...]
) -> None:
    assert ClientGrant.from_claims(claims).roles == roles


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": 1},
        {"roles": {}},
        {ROLE: [1]},
        {"role": 1},
        {"role": ["role", 1]},
        {"webpubsub.group": {"room": 1}},
        {"webpubsub.group": [" "]},
    ],
)
def test_claims_of_a_wrong_type_or_with_an_illegal_group_are_refused(claims: dict[str, object]) -> None:
    with pytest.raises(InvalidClaims):
        ClientGrant.from_claims(claims)
