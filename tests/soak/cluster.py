"""``python -m tests.soak.cluster --minutes 10 --seed 1``: random faults of nodes and engine, and what came of them.

Each round has an engine, nodes and clients of its own and some faults in a row; a row of the table is for one kind of
round. It ends with 1 if something was lost, twice or out of order, or if a connection was lost that must not be.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.npm import install_packages
from tests.interop.node import HERE as JAVASCRIPT
from tests.service.cluster.kill import faults
from tests.service.cluster.kill.arena import Shape, arena
from tests.service.cluster.kill.faults import Fault
from tests.service.cluster.kill.verdict import Verdict
from tests.service.cluster.servers import running_servers

SINGLE = (faults.kill_node, faults.kill_all_nodes, faults.stop_node, faults.fill_engine)
PAIR = (
    *SINGLE,
    faults.kill_primary,
    faults.kill_primary,
    faults.kill_primary_that_is_ahead,
    faults.repeat_entries,
)


@dataclass(frozen=True)
class Kind:
    """A kind of round.

    Attributes:
        faults: those to choose from.
        told: whether connections may be lost, which clients are told of.
    """

    shape: Shape
    faults: tuple[Fault, ...]
    count: int = 3
    told: bool = False


KINDS = {
    "a node -9": Kind(Shape(replica=False, members=("ours", "ours", "aio")), (faults.kill_node,)),
    "all nodes -9": Kind(Shape(replica=False, members=("ours", "ours", "aio")), (faults.kill_all_nodes,)),
    "primary -9, replica promoted": Kind(Shape(nodes=3, members=("ours",) * 5), (faults.kill_primary,)),
    "the same, 5 or more entries not replicated": Kind(Shape(floods=2), (faults.kill_primary_that_is_ahead,)),
    "entries twice in the log": Kind(Shape(floods=2), (faults.repeat_entries,)),
    "a node stands still for 6.5 s": Kind(Shape(nodes=3), (faults.stop_node,), count=2),
    "engine full for 7 s": Kind(Shape(), (faults.fill_engine,), count=2),
    "a node cut off from the engine": Kind(Shape(replica=False, proxied=True), (faults.cut_off_node,), count=2),
    "engine restarted empty": Kind(Shape(replica=False), (faults.empty_engine,), count=1, told=True),
    "any of these, primary and replica": Kind(Shape(nodes=3, members=("ours", "ours", "aio")), PAIR, count=5),
    "any of these, JavaScript client": Kind(Shape(members=("ours", "js")), PAIR, count=4),
}


@dataclass
class Row:
    """What came of all rounds of a kind."""

    done: Counter[str] = field(default_factory=Counter[str])
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    recoveries: int = 0
    outages: list[float] = field(default_factory=list[float])
    broken: list[str] = field(default_factory=list[str])

    def total(self, name: str) -> int:
        return sum(getattr(verdict, name) for verdict in self.verdicts)


async def play(kind: Kind, row: Row, chance: random.Random, folder: Path) -> None:
    """One round."""
    with running_servers(folder) as servers:
        async with arena(servers, kind.shape) as made:
            for _ in range(kind.count):
                fault = chance.choice(kind.faults)
                await asyncio.sleep(chance.uniform(0, 1))
                await fault(made, chance)
                row.done[fault.__name__.replace("_", " ")] += 1
            await made.until_all_have_got(10)
            row.verdicts.append(await made.settle())
            row.recoveries += made.balancer.recoveries
            row.outages += made.outages


def is_clean(kind: Kind, row: Row) -> bool:
    """Return whether nothing was lost, twice, out of order, or lost without need."""
    return not (row.broken or row.total("faults") or (row.total("disconnects") and not kind.told))


def table(rows: dict[str, Row]) -> str:
    """Return the rows, and a sum, as Markdown."""
    head = "| what was done | acked | delivered | recovery handshakes | until recovered: median, longest"
    lines = [f"{head} | connections lost | lost / duplicates / disorder |", "|---|---:|---:|---:|---:|---:|---:|"]
    everything = Row()
    for name, row in rows.items():
        done = ", ".join(f"{count} x {fault}" for fault, count in row.done.items())
        lines.append(_line(f"{name} ({done})", row))
        everything.verdicts += row.verdicts
        everything.recoveries += row.recoveries
        everything.outages += row.outages
    return "\n".join([*lines, _line("**all**", everything)])


def _line(name: str, row: Row) -> str:
    outages = f"{statistics.median(row.outages):.2f} s, {max(row.outages):.2f} s" if row.outages else "-"
    faults = " / ".join(str(row.total(each)) for each in ("lost", "duplicates", "disorder"))
    return (
        f"| {name} | {row.total('acked'):,} | {row.total('delivered'):,} | {row.recoveries} | {outages} "
        f"| {row.total('disconnects')} | {faults} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="no round is begun later")
    parser.add_argument("--seed", type=int, default=1, help="of kinds, faults and pauses")
    parser.add_argument("--only", action="append", help="kinds of rounds whose names have this in them")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    kinds = {name: kind for name, kind in KINDS.items() if options.only is None or any(o in name for o in options.only)}
    if any("js" in kind.shape.members for kind in kinds.values()):
        install_packages(JAVASCRIPT)
    rows: dict[str, Row] = {}
    end = time.monotonic() + 60 * options.minutes
    waiting: list[str] = []
    while time.monotonic() < end:
        if not waiting:
            waiting = chance.sample(sorted(kinds), len(kinds))
        name = waiting.pop()
        row = rows.setdefault(name, Row())
        with tempfile.TemporaryDirectory() as folder:
            try:
                asyncio.run(play(kinds[name], row, chance, Path(folder)))
            except Exception as error:  # noqa: BLE001 - the table tells, and the next round goes on
                row.broken.append(f"{type(error).__name__}: {error}")
                print(f"BROKEN {name}: {row.broken[-1]}", flush=True)
        verdict = row.verdicts[-1] if row.verdicts else None
        print(f"{time.monotonic() - end + 60 * options.minutes:5.0f} s  {name}: {verdict}", flush=True)
    print(f"\nseed {options.seed}, {options.minutes:g} minutes\n\n{table(rows)}")
    sys.exit(not all(is_clean(kinds[name], row) for name, row in rows.items()))


if __name__ == "__main__":
    main()
