"""Which proxy is asked: the one that is given, or what the environment says."""

from __future__ import annotations

import os
import urllib.request
from typing import Any

import pytest

from limpet import InvalidValue, Proxy
from limpet import parse_url as endpoint_of
from limpet._transports.proxies import choose_proxy

URL = "wss://service.test/client/hubs/chat?access_token=SECRET"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


def chosen(url: str, setting: Any = None) -> str | None:
    proxy = choose_proxy(setting, endpoint_of(url))
    return None if proxy is None else f"{proxy.host}:{proxy.port}"


@pytest.mark.parametrize("case", [str.lower, str.upper])
@pytest.mark.parametrize(
    ("variables", "plain", "secure"),
    [
        ({}, None, None),
        ({"http_proxy": "http://a:1"}, "a:1", None),
        ({"https_proxy": "http://b:2"}, None, "b:2"),
        ({"all_proxy": "http://c:3"}, "c:3", "c:3"),
        ({"http_proxy": "http://a:1", "https_proxy": "http://b:2", "all_proxy": "http://c:3"}, "a:1", "b:2"),
        ({"https_proxy": "b:2"}, None, "b:2"),
        ({"https_proxy": " http://ann:pass@b "}, None, "b:80"),
        ({"https_proxy": "", "all_proxy": "http://c:3"}, "c:3", "c:3"),
        ({"all_proxy": "http://c:3", "no_proxy": "*"}, None, None),
    ],
)
def test_the_environment(
    environment: pytest.MonkeyPatch, case: Any, variables: dict[str, str], plain: str | None, secure: str | None
) -> None:
    for name, value in variables.items():
        environment.setenv(case(name), value)
    assert (chosen("ws://service.test"), chosen("wss://service.test")) == (plain, secure)
    assert chosen("wss://service.test", "http://d:4") == "d:4"
    assert chosen("wss://service.test", False) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "excepted"),
    [
        ("service.test", "service.test", True),
        ("service.test", "service.test.", True),
        ("SERVICE.test", "service.TEST", True),
        ("service.test", "a.service.test", True),
        (".service.test", "a.service.test", True),
        ("service.test", "myservice.test", False),
        ("service.test", "service.test.org", False),
        ("other.test, service.test", "service.test", True),
        ("service.test:8443", "service.test:8443", True),
        ("service.test:8443", "service.test", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("2001:db8::/32", "[2001:db8::1]:8443", True),
        ("nonsense/8,,10.0.0.0/99", "10.1.2.3", False),
        ("nonsense", "service.test", False),
    ],
)
def test_exceptions_from_the_environment(
    environment: pytest.MonkeyPatch, no_proxy: str, host: str, excepted: bool
) -> None:
    environment.setenv("all_proxy", "http://proxy.test:3128")
    environment.setenv("no_proxy", no_proxy)
    assert chosen(f"wss://{host}/client/hubs/chat") == (None if excepted else "proxy.test:3128")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "a.localhost.", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_this_machine_needs_no_proxy_unless_one_is_given(environment: pytest.MonkeyPatch, host: str) -> None:
    environment.setenv("all_proxy", "http://proxy.test:3128")
    assert chosen(f"ws://{host}:8080") is None
    assert chosen(f"ws://{host}:8080", "http://d:4") == "d:4"


def test_user_and_password_of_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("https_proxy", "http://ann:p%40ss@b:2")
    assert choose_proxy(None, endpoint_of(URL)) == Proxy("b", 2, "ann", "p@ss")


@pytest.mark.parametrize("url", ["ftp://ann:SECRET@b:2", "socks4://ann:SECRET@b", "http://ann:SECRET@b:x"])
def test_a_proxy_that_can_not_be_used_is_told_without_its_password(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("https_proxy", url)
    with pytest.raises(InvalidValue, match=r"the environment has a proxy that cannot be used \(proxy=False") as caught:
        chosen(URL)
    assert "SECRET" not in repr(caught.value)


def test_a_name_of_any_case_is_found_and_nothing_is_read_where_there_is_none(
    environment: pytest.MonkeyPatch,
) -> None:
    """The environment of a process may be large, and each connection asks."""
    read: list[str] = []
    environment.setattr(urllib.request, "proxy_bypass", lambda host: bool(read.append(host)))
    assert chosen("wss://service.test") is None
    environment.setenv("Https_Proxy", "http://a:1")
    assert not read
    assert chosen("wss://localhost") is None
    assert not read
    assert chosen("wss://service.test") == "a:1"
    assert read == ["service.test:443"]


def test_the_settings_of_a_system_count_without_any_name(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(urllib.request, "getproxies", lambda: {"https": "http://a:1"})
    assert chosen("wss://service.test") == "a:1"
