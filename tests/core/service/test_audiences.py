"""Hosts as they may be named, and audiences as they are compared: part by part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_core.service import audience_matches, is_endpoint, parse_host, request_audience_matches

HERE = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("localhost", ("localhost", None)),
        ("LocalHost:8080", ("localhost", 8080)),
        ("my_service.example-1.:80", ("my_service.example-1.", 80)),
        ("127.0.0.1:00080", ("127.0.0.1", 80)),
        ("h:", ("h", None)),
        ("h:65535", ("h", 65535)),
        ("x" * 255 + ":1", ("x" * 255, 1)),
        ("[::1]:8080", ("::1", 8080)),
        ("[2001:DB8:0:0::1]", ("2001:db8::1", None)),
    ],
)
def test_a_host_and_perhaps_a_port(text: str, host: tuple[str, int | None]) -> None:
    assert parse_host(text) == host


def test_an_address_has_one_form() -> None:
    assert parse_host("[::ffff:127.0.0.1]") == parse_host("[0:0::FFFF:7f00:1]") != None  # noqa: E711


NO_HOSTS = [
    "",
    ":8080",
    "h:65536",
    "h:080000",
    "h:-1",
    "h:8a",
    "h:8080:8080",
    "h:٣",
    "::1",
    "[::1",
    "[::1]x",
    "[1.2.3.4]",
    "[fe80::1%25eth0]",
    "[v1.x]",
    "h/",
    "h/client/hubs/chat",
    "h:80/client/hubs/chat?",
    "h?",
    "h#",
    "h\\",
    "u@h",
    "user@127.0.0.1",
    "@127.0.0.1",
    "127.0.0.1@",
    "127.0.0.1:80:90",
    "user@127.0.0.1:80:90",
    " ",
    ".",
    "..",
    ".h",
    "h..x",
    "h..",
    "x" * 256,
    "u:p@h:80",
    "a b",
    "h ",
    " h",
    "h\n",
    "h\t:80",
    "h\x00",
    "h,h2",
    "h;x",
    "h%2Fclient%2Fhubs%2Fchat",
    "h%3F",
    "bücher.example",
    "\u212a",
    "h:80%2F",
]


@pytest.mark.parametrize("text", NO_HOSTS, ids=ascii)
def test_anything_else_is_no_host(text: str) -> None:
    assert parse_host(text) is None
    assert not is_endpoint(f"http://{text}/x") or text.startswith("h/") or text in ("h?", "h#")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("http://localhost:8080", True),
        ("HTTPS://example.test/pub%20sub/", True),
        ("http://[::1]:8080", True),
        ("https://h?", False),
        ("https://h/x?a=b", False),
        ("https://h/#", False),
        ("https://u@h", False),
        ("https://", False),
        ("ws://h", False),
        ("h", False),
        ("http:/h", False),
        (" http://h", False),
    ],
)
def test_endpoints(text: str, good: bool) -> None:
    assert is_endpoint(text) is good


@pytest.mark.parametrize("authority", ["user@127.0.0.1:8080", "127.0.0.1:8080@", "127.0.0.1:8080:8080", " ", "..", ""])
def test_an_audience_at_no_host_names_nothing(authority: str) -> None:
    here = f"http://{authority}"
    assert not audience_matches(f"{here}/client/hubs/chat", [HERE, here], "chat")
    assert not request_audience_matches(f"{here}/api/hubs/chat/:send", [HERE, here], "/api/hubs/chat/:send")


# ---- Clients

CLIENT = f"{HERE}/client/hubs/chat"


@pytest.mark.parametrize(
    ("audience", "endpoint", "good"),
    [
        (CLIENT, HERE, True),
        (CLIENT + "/", HERE + "/", True),
        (CLIENT.upper(), HERE, True),
        (CLIENT.replace("chat", "ch%61t"), HERE, True),
        (CLIENT.replace("http:", "https:"), HERE, True),
        (["other", CLIENT], HERE, True),
        ("http://h/client/hubs/chat", "https://h", True),
        ("http://h/client/hubs/chat", "https://h:443", True),
        ("http://h:80/client/hubs/chat", "https://h", True),
        ("https://h:443/client/hubs/chat", "http://h", True),
        ("https://h:443/client/hubs/chat", "http://h:443", True),
        ("http://h/a%20b/client/hubs/chat", "http://h/a b/", True),
        ("http://[::1]:80/client/hubs/chat", "http://[0:0::1]", True),
        ("http://h:443/client/hubs/chat", "http://h", False),
        ("http://h:81/client/hubs/chat", "http://h:80", False),
        ("http://h:80/client/hubs/chat", "http://h:443", False),
        (CLIENT + "2", HERE, False),
        (CLIENT + "/more", HERE, False),
        (CLIENT + "?x", HERE, False),
        (CLIENT + "#", HERE, False),
        (CLIENT + "%2F", HERE, False),
        (CLIENT, HERE + "/x", False),
        (CLIENT, HERE + "/client/hubs/chat?", False),
        (CLIENT.replace("/hubs/", "%2Fhubs/"), HERE, False),
        (CLIENT.replace("/client", "//client"), HERE, False),
        (CLIENT.replace("/hubs/", "/./hubs/"), HERE, False),
        (CLIENT.replace("http://", "ws://"), HERE, False),
        (CLIENT.replace("http://", ""), HERE, False),
        (CLIENT.replace("http://", "http://u@"), HERE, False),
        (f"{HERE}/api/hubs/chat/:send", HERE, False),
        (f"{HERE}/api/client/hubs/chat", HERE, False),
        (f"http://h\\@127.0.0.1:8080{CLIENT[21:]}", HERE, False),
        (None, HERE, False),
        ([CLIENT, 1], HERE, False),
    ],
    ids=ascii,
)
def test_the_audience_of_a_client(audience: object, endpoint: str, good: bool) -> None:
    assert audience_matches(audience, [endpoint], "Chat") is good
    assert audience_matches(audience, ["http://other", endpoint], "chat") is good
    assert not audience_matches(audience, ["http://other"], "chat")


# ---- Requests

PATH, QUERY = "/api/hubs/chat/groups/a%20b/:send", "api-version=2024-12-01&filter=userId%20eq%20'x'"
BARE = HERE + PATH
URL = f"{BARE}?{QUERY}"


@pytest.mark.parametrize(
    "audience",
    [
        URL,
        URL + "&top=1",
        BARE + "?maxpagesize=1",
        BARE + "/?%3F",
        BARE,
        BARE + "/",
        BARE + "?",
        BARE.upper(),
        BARE.replace("%20", " "),
        BARE.replace(":send", "%3Asend"),
        URL.replace("'", "%27"),
        BARE.replace("http:", "https:"),
        ["other", BARE],
        "https://webpubsub.azure.com",
        "https://webpubsub.azure.com/",
    ],
    ids=ascii,
)
def test_the_audience_of_a_request(audience: object) -> None:
    assert request_audience_matches(audience, ["http://other", HERE], PATH)


@pytest.mark.parametrize(
    "audience",
    [
        None,
        1,
        "",
        [],
        [1],
        "chat",
        BARE + "x",
        BARE + "#",
        BARE.replace("chat", "other"),
        BARE.replace("/:send", "%2F:send"),
        BARE.replace("/api/", "//api/"),
        BARE.replace("/api/", "/API%2F"),
        BARE.replace("8080", "8081"),
        BARE.replace("/api/", "/x/api/"),
        URL.replace("?", "%3F"),
        HERE,
        CLIENT,
        "webpubsub.azure.com",
        "https://webpubsub.azure.com:80",
        "https://webpubsub.azure.com/x",
        "https://webpubsub.azure.com?x",
        "https://webpubsub.azure.com.example",
        "https://webpubsub.azure.com@example",
    ],
    ids=ascii,
)
def test_the_audience_of_another_request(audience: object) -> None:
    assert not request_audience_matches(audience, [HERE, "http://webpubsub.azure.com:443", "nonsense"], PATH)


def test_an_encoded_slash_in_a_name_divides_nothing() -> None:
    for path in ("/api/hubs/chat/groups/a%2Fb", "/api/hubs/chat/groups/a%2fb"):
        assert request_audience_matches(HERE + path, [HERE], path)
    assert not request_audience_matches(f"{HERE}/api/hubs/chat/groups/a/b", [HERE], "/api/hubs/chat/groups/a%2Fb")
    assert not request_audience_matches(f"{HERE}/api/hubs/chat/groups/a%252Fb", [HERE], "/api/hubs/chat/groups/a%2Fb")
    assert not request_audience_matches(f"{HERE}/api/hubs/chat/users/%fe", [HERE], "/api/hubs/chat/users/%ff")


@pytest.mark.parametrize("path", ["/client/hubs/chat", "/", "", "/api%2Fhubs", "/apis/hubs", "api/hubs"])
def test_what_is_not_below_api_is_no_request(path: str) -> None:
    for audience in (HERE + path, "https://webpubsub.azure.com"):
        assert not request_audience_matches(audience, [HERE], path)


ENDPOINTS = st.sampled_from([HERE, "http://h", "https://h/a/client/hubs/chat", "http://h/api/hubs/x", "http://h/api"])
NAMES = st.lists(st.sampled_from(["client", "hubs", "chat", "api", ":send", "%2F", "?", "#", "a b", ""]), max_size=8)


@given(ENDPOINTS, ENDPOINTS, NAMES, NAMES)
def test_no_audience_is_a_clients_and_a_requests_at_one_endpoint(
    first: str, second: str, names: list[str], more: list[str]
) -> None:
    claim = "/".join([first, *names])
    path = "/" + "/".join(more)
    is_clients = any(audience_matches(claim, [second], hub) for hub in ("chat", "client", "api", "hubs"))
    assert not (is_clients and request_audience_matches(claim, [second], path))


@given(st.text(), st.text(), st.text())
def test_any_claim_and_request_can_be_compared(claim: str, endpoint: str, path: str) -> None:
    assert request_audience_matches(claim, [endpoint], path) in (True, False)
    assert audience_matches(claim, [endpoint], path) in (True, False)
    if (found := parse_host(claim)) is not None:
        host, port = found
        text = f"[{host}]" if ":" in host else host
        assert parse_host(text if port is None else f"{text}:{port}") == found
        assert is_endpoint(f"http://{claim}")
