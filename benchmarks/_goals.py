"""What is aimed at: ratios within one run. See docs/explanation/performance.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import _harness as harness

Measured = dict[str, harness.Results]
"""Everything of one run, by the names of its parts."""


@dataclass(frozen=True)
class Goal:
    """``over`` divided by ``under`` is to be ``must`` at least, and ``aim`` if that can be had."""

    what: str
    part: str
    over: str
    under: str
    must: float
    aim: float
    of: Callable[[harness.Run], float] = harness.cpu
    at_most: bool = False

    def reached(self, ratio: float, limit: float) -> bool:
        return ratio <= limit if self.at_most else ratio >= limit


def goals() -> list[Goal]:
    """In the order of the table."""
    rate, memory = harness.rate, harness.memory
    many, one, paced = "send 1000", "send 1", "paced 1000"
    return [
        Goal("receive 32 B: official aio / ours", "receive 32", "aio", "ours", 10, 20),
        Goal("receive 256 B: official aio / ours", "receive 256", "aio", "ours", 5, 10),
        Goal("receive 4 KiB: official aio / ours", "receive 4096", "aio", "ours", 1.3, 2),
        Goal("receive 64 KiB: official aio / ours", "receive 65536", "aio", "ours", 1.1, 1.6),
        Goal("receive 32 B: official JavaScript / ours", "receive 32", "js", "ours", 2, 4.5),
        Goal("receive 256 B: official JavaScript / ours", "receive 256", "js", "ours", 2, 4.5),
        Goal("receive 4 KiB: official JavaScript / ours", "receive 4096", "js", "ours", 1.3, 2),
        Goal("receive 32 B: official blocking / our blocking", "receive 32", "sync", "ours-sync", 50, 50),
        Goal("receive 32 B: wsproto by hand / ours", "receive 32", "wsproto", "ours", 3, 6),
        Goal("receive 32 B: picows by hand / ours", "receive 32", "picows", "ours", 0.4, 0.85),
        Goal("receive 4 KiB: picows by hand / ours", "receive 4096", "picows", "ours", 0.4, 0.6),
        Goal("receive 32 B: trio / asyncio", "receive 32", "ours-trio", "ours", 1.3, 1.3, at_most=True),
        Goal("receive 32 B: anyio / asyncio", "receive 32", "ours-anyio", "ours", 1.3, 1.3, at_most=True),
        Goal("receive 32 B: iteration / callbacks, asyncio", "receive 32", "ours-for", "ours", 1.4, 1.3, at_most=True),
        Goal(
            "receive 32 B: iteration / callbacks, trio",
            "receive 32",
            "ours-trio-for",
            "ours-trio",
            1.4,
            1.2,
            at_most=True,
        ),
        Goal(
            "receive 32 B: iteration / callbacks, anyio",
            "receive 32",
            "ours-anyio-for",
            "ours-anyio",
            1.5,
            1.3,
            at_most=True,
        ),
        Goal("receive 256 B, 1,000/s: official aio / ours", paced, "aio", "ours", 1.2, 1.2),
        Goal("1,000 sends in flight, sends/s: ours / official aio", many, "ours", "aio", 5, 15, rate),
        Goal("1,000 sends in flight, sends/s: ours / official JavaScript", many, "ours", "js", 0.7, 2.2, rate),
        Goal("the same by client.submit", many, "ours-submit", "js", 1.5, 3, rate),
        Goal("one send after the other, sends/s: ours / official aio", one, "ours", "aio", 2, 3.5, rate),
        Goal("one send after the other, sends/s: ours / official JavaScript", one, "ours", "js", 0.6, 0.9, rate),
        Goal("memory of an idle connection: official aio / ours", "idle", "aio", "ours", 3, 3.8, memory),
    ]


def table(measured: Measured) -> str:
    """Each goal and what this run says to it."""
    lines = [
        "| CPU per message, where nothing else is said | must | aim | measured | spread | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for goal in goals():
        ratios = harness.ratios(measured.get(goal.part, {}), goal.over, goal.under, goal.of)
        if not ratios:
            continue
        ratio = statistics.median(ratios)
        verdict = (
            "reached"
            if goal.reached(ratio, goal.aim)
            else "between"
            if goal.reached(ratio, goal.must)
            else "**missed**"
        )
        sign = "≤ " if goal.at_most else ""
        lines.append(
            f"| {goal.what} | {sign}{goal.must:g} | {sign}{goal.aim:g} | **{ratio:.2f}** "
            f"| {harness.spread(ratios, '.2f')} | {verdict} |"
        )
    return "\n".join(lines)
