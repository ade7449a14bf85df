"""URLs of engines."""

from __future__ import annotations

import pytest

from limpet.service.cluster import LogId
from limpet.service.cluster._redis_url import Address, parse_url


@pytest.mark.parametrize(
    ("url", "addresses", "username", "password", "database", "name"),
    [
        ("redis://h", ["h:6379"], None, None, 0, None),
        ("REDIS://h", ["h:6379"], None, None, 0, None),
        ("valkey://h:1", ["h:1"], None, None, 0, None),
        ("redis://h/", ["h:6379"], None, None, 0, None),
        ("redis://h:7000/5", ["h:7000"], None, None, 5, None),
        ("redis://:pass@h", ["h:6379"], None, "pass", 0, None),
        (
            "redis://ann:p%40s%2Fs%23@h:7000,g,[::1],[::2]:5/1",
            ["h:7000", "g:6379", "[::1]:6379", "[::2]:5"],
            "ann",
            "p@s/s#",
            1,
            None,
        ),
        ("redis://a%3Ab:@h", ["h:6379"], "a:b", "", 0, None),
        ("redis://h,h,g", ["h:6379", "g:6379"], None, None, 0, None),
        ("redis+sentinel://h/mine", ["h:26379"], None, None, 0, "mine"),
        ("redis+sentinel://:p@h:1,g:2/my%20own/3", ["h:1", "g:2"], None, "p", 3, "my own"),
    ],
)
def test_urls(
    url: str, addresses: list[str], username: str | None, password: str | None, database: int, name: str | None
) -> None:
    parsed = parse_url(url)
    assert [str(address) for address in parsed.addresses] == addresses
    login = parsed.login
    assert (login.username, login.password, login.database, login.tls) == (username, password, database, None)
    assert parsed.sentinel_name == name


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "it does not begin with one of redis://"),
        ("h:6379", "it does not begin with one of redis://"),
        ("http://h", "it does not begin with one of redis://"),
        ("unix:///run/redis.sock", "unix sockets are not supported"),
        ("redis://", "a host is missing"),
        ("redis://h,,g", "a host is missing"),
        ("redis://h:", "a port is missing or 0"),
        ("redis://h:0", "a port is missing or 0"),
        ("redis://h:x", "no number up to 65535"),
        ("redis://h:70000", "no number up to 65535"),
        ("redis://[::1", "a host in brackets is not closed"),
        ("redis://h/x", "the database 'x' is no number"),
        ("redis://h/1/2", "the database '1/2' is no number"),
        ("redis://h/-1", "the database '-1' is no number"),
        ("redis://secret@h", "a user without a password"),
        ("redis://:se#cret@h", "it has a fragment"),
        ("redis://h?ssl_ca_certs=x", "'ssl_ca_certs' is no option of it; its options are: none"),
        ("rediss://h?timeout=5", "'timeout' is no option of it; its options are: ssl_ca_certs"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs is required or none"),
        ("rediss://h?ssl_check_hostname=no", "ssl_check_hostname is true or false"),
        ("rediss://h?ssl_keyfile=x", "ssl_keyfile needs ssl_certfile"),
        ("redis+sentinel://h", "the name under which the sentinels know the primary is missing"),
        ("redis+sentinel://h//0", "the name under which the sentinels know the primary is missing"),
        ("redis://" + ",".join(f"h{number}" for number in range(17)), "more than 16 hosts"),
    ],
)
def test_urls_that_are_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match="not the URL of an engine") as refused:
        parse_url(url)
    assert why in str(refused.value)
    assert "redis+sentinel://" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "cret" not in str(refused.value)


def test_a_login_does_not_show_its_password() -> None:
    assert "hush" not in repr(parse_url("redis+sentinel://:hush@h/n?sentinel_password=hush2"))


def test_addresses_are_written_as_in_a_url() -> None:
    assert str(Address("::1", 5)) == "[::1]:5"


@pytest.mark.parametrize("text", ["5-0", b"1700000000000-12"])
def test_ids_can_be_read(text: str | bytes) -> None:
    assert str(LogId.parse(text)) == (text if isinstance(text, str) else text.decode())


@pytest.mark.parametrize("text", ["", "5", "5-", "-5", "5-x", "+5-1", "5-1-1", "\u0665-1", b"\xff-1", "1" * 21 + "-0"])
def test_what_is_no_id(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="not the id of an entry"):
        LogId.parse(text)
