"""``limpet bench``: what it counts, how long it goes on, and what it says."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from tests.helpers.command_line import limpet

from limpet import GroupMessage
from limpet.cli import bench


def test_figures_as_json(service: dict[str, str]) -> None:
    plan = ["--count", "60", "--size", "20", "--in-flight", "5", "--subscribers", "2", "--json"]
    done = limpet("bench", service["url"], *plan)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    named = {key: figures[key] for key in ("size", "inFlight", "subscribers", "published", "delivered", "missing")}
    assert list(named.values()) == [20, 5, 2, 60, 120, 0]
    assert figures["publishedPerSecond"] == pytest.approx(60 / figures["seconds"], rel=0.01)
    assert figures["deliveredPerSecond"] > 0
    for name in ("ackSeconds", "deliverySeconds"):
        latencies = figures[name]
        assert list(latencies) == ["p50", "p90", "p99", "max"]
        assert 0 < latencies["p50"] <= latencies["p90"] <= latencies["p99"] <= latencies["max"]


def test_a_table_and_the_bound_in_time(service: dict[str, str]) -> None:
    done = limpet("bench", "--url", service["url"], "--seconds", "0.3", "--subscribers", "0")
    assert done.returncode == 0, done.stderr
    assert re.match(r"-- publishing to bench-[0-9a-f]{16}, 0\.3 s, 0 subscribers", done.stderr)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert re.search(r"│ published +│ +[1-9][\d,]* │", done.stdout)
    assert re.search(r"│ acknowledgement │ +[\d.]+ │ +[\d.]+ │ +[\d.]+ │ +[\d.]+ │", done.stdout)
    assert "delivery" not in done.stdout
    assert "\x1b" not in done.stdout


def test_a_refusal_ends_it(service: dict[str, str]) -> None:
    url = limpet("url", "-c", service["connection_string"], "--role", "none").stdout.strip()
    refused = limpet("bench", url, "--count", "10", "--subscribers", "0")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("Error: Forbidden")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], None),
        ([3.0], [3.0, 3.0, 3.0, 3.0]),
        ([2.0, 1.0], [1.0, 2.0, 2.0, 2.0]),
        ([float(number) for number in range(100, 0, -1)], [50.0, 90.0, 99.0, 100.0]),
        ([float(number) for number in range(1, 1001)], [500.0, 900.0, 990.0, 1000.0]),
    ],
)
def test_percentiles(times: list[float], expected: list[float] | None) -> None:
    found = bench.percentiles(times)
    assert (None if found is None else list(found.values())) == expected


class Publisher:
    """Stands for a client whose messages arrive at a reader as ``arrive`` says."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send_to_group(self, group: str, text: str) -> None:
        self.sent.append(text)


@pytest.mark.parametrize("foreign", ["", "0000:0000001", ":", "{run}:9999999", "{run}:x"])
def test_what_does_not_arrive_is_missing(monkeypatch: pytest.MonkeyPatch, foreign: str) -> None:
    """Messages of others in the group are not counted in its place."""
    monkeypatch.setattr(bench, "_PATIENCE", 0.05)
    publisher: Any = Publisher()
    trial = bench._Trial(bench.Plan("g", 3, None, 12, 1, 1), publisher)
    trial.received(GroupMessage(group="g", data=foreign.format(run=trial._run)))
    figures = asyncio.run(trial.run())
    assert [len(text) for text in publisher.sent] == [12, 12, 12]
    assert (figures.published, figures.delivered) == (3, 0)
    for text in publisher.sent:
        trial.received(GroupMessage(group="g", data=text))
    assert figures.delivered == 3
