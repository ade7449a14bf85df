"""The claims in the connect event: under the names of the token, and under those that the official samples look up."""

from __future__ import annotations

from typing import Any

import pytest

from limpet_core.service.webhooks.connect_request import connect_request

XMLSOAP = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims"
NAME = f"{XMLSOAP}/nameidentifier"
ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@pytest.mark.parametrize(
    ("claims", "added"),
    [
        ({"sub": "ann"}, {NAME: ["ann"]}),
        ({"nameid": "ann"}, {NAME: ["ann"]}),
        ({"sub": "ann", "nameid": "ben"}, {NAME: ["ann", "ben"]}),
        ({"role": ["a", "b"]}, {ROLE: ["a", "b"]}),
        ({"role": "a", "roles": ["b"]}, {ROLE: ["a", "b"]}),
        ({ROLE: "a", "role": "b"}, {ROLE: ["a", "b"]}),
        (
            {"email": "a@b.c", "given_name": "Ann"},
            {f"{XMLSOAP}/emailaddress": ["a@b.c"], f"{XMLSOAP}/givenname": ["Ann"]},
        ),
        ({"exp": 1, "webpubsub.group": ["a"], "Sub": "ann"}, {}),
        ({"sub": "\ud800", "role": [1, None]}, {NAME: ["?"], ROLE: ["1", "null"]}),
        ({}, {}),
    ],
)
def test_claims_have_their_long_names_as_well(claims: dict[str, Any], added: dict[str, list[str]]) -> None:
    found = connect_request(claims, {}, [], []).claims
    assert {name: values for name, values in found.items() if name in added} == added
    assert set(found) == set(claims) | set(added)


def test_the_claims_of_the_token_stay_as_they_are() -> None:
    token = {"sub": "ann", "role": ["a"], "exp": 1}
    found = connect_request(token, {}, [], []).claims
    assert {name: found[name] for name in token} == {"sub": ["ann"], "role": ["a"], "exp": ["1"]}
    assert token == {"sub": "ann", "role": ["a"], "exp": 1}
