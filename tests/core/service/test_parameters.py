"""What requests to the data plane may say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limpet_core.service import InvalidMetadata, encode_metadata, metadata_from_headers
from limpet_core.service.data_plane.parameters import (
    API_VERSIONS,
    GroupChange,
    OperationError,
    Query,
    connection_id,
    group_name,
    hub_name,
    payload,
    user_id,
)

JSON = "application/json"


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", b' {"a": "\xc3\xbc"}\n', ("json", {"a": "ü"})),
        ("application/json; charset=utf-8", b"null", ("json", None)),
        ("Application/JSON;charset=UTF-16", '"ü"'.encode("utf-16"), ("json", "ü")),
        ("text/plain", b"", ("text", "")),
        ("text/plain;charset=UTF-8", b"\xef\xbb\xbf\xc3\xbc\n", ("text", "ü\n")),
        ("text/plain; charset=iso-8859-1", b"\xfc", ("text", "ü")),
        ('text/plain; charset="windows-1252"', b"\x80", ("text", "€")),
        ("application/octet-stream", b"\x00\xff", ("binary", "AP8=")),
        ("text/plain; charset=Shift_JIS", b"\x83\x65", ("text", "テ")),
        ("application/octet-stream; charset=whatever", b"", ("binary", "")),
        (' text/plain ; x="a\\";b" ;; y ; charset=utf-8; charset=utf-16', b"x", ("text", "x")),
        (None, b"\x00", ("binary", "AA==")),
        ("", b"\x00", ("binary", "AA==")),
    ],
)
def test_payloads(content_type: str | None, body: bytes, expected: tuple[str, object]) -> None:
    data_type, data = payload(content_type, body)
    assert (data_type, json.loads(data)) == expected


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"1 2", 400),
        ("application/json", b'"\xff"', 400),
        ("application/json", b"[" * 100_000, 400),
        ("text/plain", b"\xff", 400),
        ("text/plain; charset=us-ascii", b"\xff", 400),
        ("text/plain; charset=nonsense", b"", 415),
        ("text/plain; charset=punycode", b"", 415),
        ("text/plain; charset=unicode_escape", b"\\q", 415),
        ("text/plain; charset=rot13", b"", 415),
        ("text/plain; charset=a\x00b", b"", 415),
        ("text/html", b"", 415),
        ("text", b"", 415),
        ("application/json/x", b"1", 415),
        ("text/plain, application/json", b"1", 415),
        ("; charset=utf-8/", b"1", 415),
        ("text/plain/more", b"", 415),
        ("application/json, text/plain", b"1", 415),
        ("text/plain, text/plain", b"", 415),
        ("text/plain charset=utf-8", b"", 415),
        ("text/plain; charset = utf-8", b"", 415),
        ("text/plain; charset=", b"", 415),
        ("text/plain; charset", b"", 415),
        ('text/plain; x="', b"", 415),
        ('text/plain; x="\\" \t' + '; x="\\"' * 10_000, b"", 415),
        ("text/plain" + "; \t" * 10_000 + "=", b"", 415),
        ("application/x-protobuf", b"", 415),
    ],
)
def test_payloads_that_are_refused(content_type: str, body: bytes, status: int) -> None:
    with pytest.raises(OperationError) as raised:
        payload(content_type, body)
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        (
            "text/html\r\nX: y",
            b"",
            "The content type is text/html\\r\\nX: y; it has to be application/json, text/plain or ",
        ),
        (
            "application/json",
            b"hello",
            "The request body is not a valid JSON. Text that is no JSON has the content type",
        ),
        ("application/json", b" ", "The request body is not a valid JSON. It is empty."),
        ("application/json", b"[" * 100_000, "The request body is not a valid JSON. It is nested too deeply."),
    ],
)
def test_what_is_wrong_with_a_payload_is_said(content_type: str, body: bytes, said: str) -> None:
    with pytest.raises(OperationError) as raised:
        payload(content_type, body)
    assert raised.value.message.startswith(said)


def test_parameters() -> None:
    query = Query([("Reason", "bye"), ("excluded", "a"), ("EXCLUDED", "b"), ("top", "5"), ("filter", " ")])
    assert query.one("reason") == "bye"
    assert query.one("missing") is None
    assert query.all("excluded") == ["a", "b"]
    assert query.integer("top", 1, 5) == 5
    assert query.integer("missing", 1, 5) is None
    assert query.filter() is None
    assert query.time_to_live() == 0
    assert Query([("messagettlseconds", "300")]).time_to_live() == 300


def test_parameters_that_are_there_twice() -> None:
    query = Query([("filter", "true"), ("Filter", "false"), ("top", "1"), ("top", "1")])
    for ask in (query.filter, lambda: query.integer("top", 1, 5)):
        with pytest.raises(OperationError, match="2 times") as raised:
            ask()
        assert raised.value.status == 400


@pytest.mark.parametrize("text", ["", "0", "6", "-1", "+1", "1.0", " 1", "١", "one", "9" * 5000])
def test_numbers_out_of_bounds(text: str) -> None:
    with pytest.raises(OperationError, match="between 1 and 5"):
        Query([("top", text)]).integer("top", 1, 5)


@pytest.mark.parametrize(
    ("asked", "followed"),
    [
        *((version, version) for version in API_VERSIONS),
        (None, "2024-12-01"),
        ("2021-05-01-preview", "2021-10-01"),
        ("2021-10-01-preview", "2021-10-01"),
        ("2021-10-02-preview", "2022-11-01"),
        ("2024-08-01-Preview", "2024-12-01"),
        ("2031-12-31-preview", "2024-12-01"),
    ],
)
def test_versions_that_exist_and_previews_of_them(asked: str | None, followed: str) -> None:
    assert Query([] if asked is None else [("api-version", asked)]).api_version() == followed


@pytest.mark.parametrize(
    "versions",
    [
        [""],
        ["2020-01-01"],
        ["2026-01-01"],
        ["preview"],
        ["2024-13-01-preview"],
        ["2024-12-32-preview"],
        ["2024-12-01-preview2"],
        ["2024-12-01-preview\n"],
        ["\u0662024-12-01-preview"],
        ["2024-12-01", "2024-12-01"],
    ],
)
def test_versions_that_do_not(versions: list[str]) -> None:
    with pytest.raises(OperationError, match=r"^(Invalid api-version|The specified API version is not supported)\."):
        Query([("api-version", version) for version in versions]).api_version()


def test_names_in_paths() -> None:
    assert (hub_name("Chat_1"), group_name(" room ")) == ("Chat_1", " room ")
    assert (user_id(" ann"), connection_id("c1")) == (" ann", "c1")
    for check, target, names in (
        (hub_name, "hub", ("1st", "", "a b")),
        (group_name, "group", (None, "", " ", "r" * 1025)),
        (user_id, "userId", ("", " ", "\t\u00a0")),
        (connection_id, "connectionId", ("", " ")),
    ):
        for name in names:
            with pytest.raises(OperationError, match=r"^Invalid ") as caught:
                check(name)  # type: ignore[operator]
            assert (caught.value.status, caught.value.target) == (400, target)


def test_group_changes() -> None:
    change = GroupChange.from_body(JSON, b'{"groups": ["a", "b"], "filter": "userId eq null", "more": 1}')
    assert change.groups == ("a", "b")
    assert change.filter is not None
    assert change.filter.text == "userId eq null"
    for body in (b'{"groups":["a"]}', b'{"groups":["a"],"filter":null}', b'{"groups":["a"],"filter":""}'):
        assert GroupChange.from_body(JSON, body).filter is None


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("application/json; charset=utf-8", "utf-8"),
        ("Application/JSON;charset=UTF-16", "utf-16"),
        ('application/json; charset="utf-8"', "utf-8-sig"),
    ],
)
def test_group_changes_in_any_charset_with_names_in_any_case(content_type: str, charset: str) -> None:
    body = '{"GROUPS": ["ü"], "Filter": "userId eq null"}'.encode(charset)
    change = GroupChange.from_body(content_type, body)
    assert change.groups == ("ü",)
    assert change.filter is not None


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "json",
        "text/plain",
        "application/octet-stream",
        "application/xml",
        "application/json+x",
        "application/json; charset=unknown",
        'application/json; charset="',
        "application/json; charset=",
    ],
)
def test_group_changes_are_json(content_type: str | None) -> None:
    with pytest.raises(OperationError) as raised:
        GroupChange.from_body(content_type, b'{"groups":["a"]}')
    assert raised.value.status == 415


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        (None, "The request has no content type; it has to be application/json."),
        ("text/plain", "The content type is text/plain; it has to be application/json."),
    ],
)
def test_a_group_change_that_is_not_json_is_told_so(content_type: str | None, said: str) -> None:
    with pytest.raises(OperationError) as raised:
        GroupChange.from_body(content_type, b"{}")
    assert raised.value.message == said


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"groups":[]}',
        b'{"groups":"a"}',
        b'{"groups":null}',
        b'{"groups":["a",null]}',
        b'{"groups":["a",""]}',
        b'{"groups":["a"," \\t"]}',
        b'{"groups":["a"],"filter":" "}',
        b'{"groups":["a"],"FILTER":" "}',
        b'{"groups":["a"],"filter":"true","Filter":"\\t"}',
        b'{"groups":["a"],"filter":false}',
        b'{"groups":["a"],"filter":"userId"}',
        b'{"groups":["a"],"filter":1}',
        b'{"groups":["\xbe"]}',
        b'{"groups":' + b"[" * 100_000,
    ],
    ids=lambda body: body[:30],
)
def test_group_changes_that_are_refused(body: bytes) -> None:
    with pytest.raises(OperationError) as raised:
        GroupChange.from_body(JSON, body)
    assert raised.value.status == 400


# ---- Metadata


@pytest.mark.parametrize(
    ("headers", "metadata"),
    [
        ([], b""),
        ([("Content-Type", "text/plain")], b""),
        ([("X-WebPubSub-Metadata-Trace-ID", " abc ")], b'{"trace-id":"abc"}'),
        ([("x-webpubsub-metadata-a", "1"), ("X-WEBPUBSUB-METADATA-A", "2, 3")], b'{"a":"3"}'),
        ([("x-webpubsub-metadata-a", "")], b'{"a":""}'),
    ],
)
def test_metadata_in_headers(headers: list[tuple[str, str]], metadata: bytes) -> None:
    assert metadata_from_headers(headers) == metadata


@pytest.mark.parametrize(
    "pairs",
    [
        [("", "x")],
        [("a b", "x")],
        [("a" * 257, "x")],
        [("a", "x"), ("a", "y")],
        [("a", "x" * 1025)],
        [("a", "ü")],
        [("a", 1)],
        [(f"{n}", "x" * 1024) for n in range(8)],
    ],
    ids=lambda pairs: str(pairs)[:20],
)
def test_metadata_that_is_refused(pairs: list[tuple[str, Any]]) -> None:
    with pytest.raises(InvalidMetadata):
        encode_metadata(pairs)


def test_metadata_as_large_as_is_allowed_is_encoded() -> None:
    pairs = [("k" * 256, "v" * 1024), *((f"{n}", "x" * 1023) for n in range(6)), ("y", "z" * 767)]
    assert sum(len(key) + len(value) for key, value in pairs) == 8192
    assert json.loads(encode_metadata(pairs)) == dict(pairs)


# ---- Audiences
