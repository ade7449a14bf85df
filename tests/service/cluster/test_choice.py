"""Which server is appended to and which one is read, by what the servers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.service.cluster._redis_servers import Choice, Server, choose, parse_info
from limpet.service.cluster._redis_survey import Findings
from limpet.service.cluster._redis_url import Address


def server(name: str, **changes: object) -> Server:
    values: dict[str, object] = {
        "address": Address(name, 1), "run_id": name, "is_primary": name.startswith("p"), "engine": "Redis 7.0.15",
        "history": "h1", "history_before": "0", "link_up": True, "priority": 100, "replicas": (), "primary": None,
        "refusal": None,
    }  # fmt: skip
    return Server(**(values | changes))  # type: ignore[arg-type]


PRIMARY, REPLICA = server("p1"), server("r1")
CUT_OFF = server("r1", link_up=False)
PROMOTED = server("r1", is_primary=True, history="h2", history_before="h1")
READING = Choice(PRIMARY, REPLICA)
DEGRADED = Choice(PRIMARY, PRIMARY)
EMPTY = server("p2", history="h7", address=Address("p1", 1))  # in place of the primary


@pytest.mark.parametrize(
    ("servers", "options", "primary", "source", "problem"),
    [
        ([], {}, None, None, "no primary answers"),
        ([REPLICA], {}, None, None, "no primary answers"),
        ([PRIMARY], {}, "p1", "p1", "no replica that follows it"),
        ([PRIMARY], {"strict": True}, "p1", None, "--strict demands a replica"),
        ([PRIMARY, REPLICA], {}, "p1", "r1", None),
        ([REPLICA, PRIMARY], {}, "p1", "r1", None),
        # Replicas that must not be read: of another history, of no priority, behind, or evicting.
        ([PRIMARY, server("r1", history="h9")], {}, "p1", "p1", "no replica that follows it"),
        ([PRIMARY, server("r1", priority=0)], {}, "p1", "p1", "no replica that follows it"),
        ([PRIMARY, CUT_OFF], {}, "p1", "p1", "no replica that follows it"),
        ([PRIMARY, server("r1", refusal="evicts")], {}, "p1", "p1", "evicts"),
        ([PRIMARY, server("r1", refusal="evicts")], {"strict": True}, "p1", None, "evicts"),
        # The one that Sentinel would promote; of two, a warning.
        ([PRIMARY, server("r2", priority=5), REPLICA], {}, "p1", "r2", "several replicas may be promoted"),
        ([PRIMARY, server("r2"), REPLICA], {}, "p1", "r1", "Set replica-priority 0 on all but one"),
        ([PRIMARY, server("r2", priority=0), REPLICA], {}, "p1", "r1", None),
        # The replica that was read cannot be: it may be promoted soon, or else the primary is read.
        ([PRIMARY, CUT_OFF], {"in_use": READING}, "p1", None, "waiting"),
        ([PRIMARY, CUT_OFF], {"in_use": READING, "patient": False}, "p1", "p1", "no replica that follows it"),
        ([PRIMARY, CUT_OFF], {"in_use": DEGRADED}, "p1", "p1", "no replica that follows it"),
        ([PRIMARY], {"in_use": READING, "silent": True}, "p1", None, "waiting"),
        ([PRIMARY], {"in_use": READING, "silent": False}, "p1", "p1", "no replica that follows it"),
        ([PRIMARY], {"in_use": READING, "silent": True, "patient": False}, "p1", "p1", "no replica"),
        # A replica was promoted: whether the old primary is there or not.
        ([PROMOTED], {"in_use": READING}, "r1", "r1", "no replica that follows it"),
        ([PROMOTED], {"in_use": READING, "strict": True}, "r1", None, "--strict"),
        ([PRIMARY, PROMOTED], {"in_use": READING}, "r1", "r1", "no replica that follows it"),
        ([PRIMARY, PROMOTED], {}, "r1", "r1", "no replica that follows it"),
        ([PRIMARY, PROMOTED, server("r3", history="h2")], {"in_use": READING}, "r1", "r3", None),
        # Two that have nothing to do with each other: the one in use, or none.
        ([PRIMARY, server("p2", history="h7")], {}, None, None, "several servers say that they are the primary (p1:1,"),
        ([PRIMARY, server("p2", history="h7")], {"in_use": DEGRADED}, "p1", "p1", "no replica"),
        ([server("p2", history="h7"), PRIMARY], {"in_use": DEGRADED}, "p1", "p1", "no replica"),
        ([PRIMARY, server("p2", history="h7"), REPLICA], {"in_use": READING}, "p1", "r1", "p1:1 is used on"),
        # The one in use is silent, and may live: another one is taken at once only if it follows from it.
        ([server("p2", history="h7")], {"in_use": DEGRADED, "silent": True}, None, None, "p2:1 says that it is the"),
        ([server("p2", history="h7")], {"in_use": DEGRADED, "silent": True, "loyal": False}, "p2", "p2", "no replica"),
        ([server("p2", history="h7")], {"in_use": DEGRADED}, "p2", "p2", "no replica"),
        ([EMPTY], {"in_use": DEGRADED, "silent": True}, "p1", "p1", "no replica"),
        ([PROMOTED], {"in_use": READING, "silent": True}, "r1", "r1", "no replica"),
        # What Sentinel says.
        ([PRIMARY, PROMOTED], {"named": PRIMARY.address}, "p1", "p1", "no replica"),
        ([PRIMARY, REPLICA], {"named": REPLICA.address}, None, None, "r1:1 is the primary for Sentinel"),
        ([PRIMARY, REPLICA], {"named": PRIMARY.address}, "p1", "r1", None),
        # The same server by two names counts once.
        ([PRIMARY, server("p1", address=Address("alias", 1)), REPLICA], {}, "p1", "r1", None),
        ([server("p1", refusal="too old"), REPLICA], {}, None, None, "too old"),
    ],
)  # fmt: skip
def test_choices(
    servers: list[Server], options: dict[str, object], primary: str | None, source: str | None, problem: str | None
) -> None:
    choice = choose(servers, **({"in_use": Choice()} | options))  # type: ignore[arg-type]
    assert (choice.primary and choice.primary.address.host) == primary
    assert (choice.source and choice.source.address.host) == source
    assert (problem in str(choice.problem)) if problem else choice.problem is None


def test_another_primary_is_named_where_a_replica_is_missing_unless_sentinel_will_change_it() -> None:
    hint = "; p1:1 says that it is a primary, too: make it a replica of r1:1 (REPLICAOF)"
    assert str(choose([PRIMARY, PROMOTED], in_use=READING).problem).endswith(hint)
    assert "too: make it" not in str(choose([PROMOTED], in_use=READING).problem)
    assert str(choose([PRIMARY, PROMOTED], in_use=READING, strict=True).problem).endswith(hint)
    assert "too: make it" not in str(choose([PRIMARY, PROMOTED], named=PROMOTED.address, in_use=READING).problem)


def test_only_what_somebody_must_change_is_lasting() -> None:
    assert choose([PRIMARY, server("p2", history="h7")], in_use=Choice()).lasting
    assert choose([server("p1", refusal="x")], in_use=Choice()).lasting
    assert not choose([], in_use=Choice()).lasting
    assert not choose([REPLICA], named=REPLICA.address, in_use=Choice()).lasting


REAL = """# Server\r
redis_version:7.0.15\r
run_id:abc\r
# Memory\r
maxmemory:0\r
maxmemory_policy:noeviction\r
# Replication\r
role:master\r
connected_slaves:2\r
slave0:ip=10.0.0.2,port=6380,state=online,offset=14,lag=0\r
slave1:ip=2001:db8::1,port=6381,state=online,offset=14,lag=0\r
slave2:ip=,port=x\r
master_replid:h1\r
master_replid2:0\r
"""


def test_info_is_read() -> None:
    found = parse_info(Address("h", 1), REAL)
    assert found is not None
    assert found.is_primary
    assert found.replicas == (Address("10.0.0.2", 6380), Address("2001:db8::1", 6381))
    assert (found.run_id, found.history, found.history_before, found.refusal) == ("abc", "h1", "0", None)
    replica = REAL.replace(
        "role:master", "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:up"
    )
    found = parse_info(Address("h", 1), replica)
    assert found is not None
    assert (found.is_primary, found.link_up, found.primary) == (False, True, Address("10.0.0.1", 6379))
    found = parse_info(Address("h", 1), f"{replica}loading:1\r\n")
    assert found is not None
    assert not found.link_up
    assert parse_info(Address("h", 1), REAL.replace("role:master", "role:sentinel")) is None


@pytest.mark.parametrize(
    ("fields", "engine"),
    [
        ("redis_version:7.0.15", "Redis 7.0.15"),
        # The Redis that a fork is like comes first or last.
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1", "Valkey 8.1.1"),
        ("redict_version:7.3.6\r\nredict_mode:standalone\r\nredis_version:7.2.4", "Redict 7.3.6"),
        ("valkey_version:10.0.0", "Valkey 10.0.0"),
        (f"redis_version:7.2.4\r\nvalkey_version:{'9' * 99}", f"Valkey {'9' * 21}... (99 characters)"),
        ("valkey_version:", "Valkey of an unknown version"),
    ],
)
def test_an_engine_is_called_by_its_own_name(fields: str, engine: str) -> None:
    found = parse_info(Address("h", 1), REAL.replace("redis_version:7.0.15", fields))
    assert found is not None
    assert (found.engine, found.refusal) == (engine, None)


@given(st.text() | st.lists(st.tuples(st.sampled_from(REAL.split("\r\n")), st.text()).map("".join)).map("\r\n".join))
def test_any_info_can_be_read(text: str) -> None:
    parse_info(Address("h", 1), text)


@pytest.mark.parametrize(
    ("refusal_lasts", "problem_lasts", "explained"),
    [
        (False, False, "b loads its data; no primary; c is silent"),
        (False, True, "b loads its data; no primary; c is silent"),
        (True, False, "b loads its data; c is silent"),  # who knows whether b is one
        (True, True, "b loads its data; no primary; c is silent"),
    ],
)
def test_what_servers_say_comes_first_and_a_problem_that_may_be_none_is_not_told(
    refusal_lasts: bool, problem_lasts: bool, explained: str
) -> None:
    findings = Findings(faults=["c is silent"], refusals=["b loads its data"], lasting=refusal_lasts)
    assert findings.explained("no primary", is_lasting=problem_lasts) == explained
