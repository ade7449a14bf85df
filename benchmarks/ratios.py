"""A quick check that can fail: ratios within one run that must hold on any machine, however slow or busy.

``python benchmarks/ratios.py`` takes a few seconds; the exit status says whether all of them hold.
"""

from __future__ import annotations

import sys
import time

from _workloads import Workload, all_workloads

SECONDS = 0.5
RATIOS = [
    ("receive 32 B by wsproto", "receive 32 B", 8.0, "the fast lane is worth it for small messages"),
    ("receive 4 KiB by wsproto", "receive 4 KiB", 2.5, "and for larger ones"),
    ("decode 32 B", "receive 32 B", 1 / 6, "the decoder remains a good part of the way of a message"),
    # Some 1.2 on a quiet machine.
    ("receive 32 B", "receive 32 B of protobuf", 1 / 1.5, "small protobuf messages cost little more than JSON"),
    ("receive 4 KiB", "receive 4 KiB of protobuf", 1 / 1.5, "and larger ones"),
    ("receive 32 B", "drain nothing", 1.0, "an empty drain costs less than a message"),
]


def best(workloads: list[Workload]) -> dict[str, float]:
    """Seconds for each, the shortest of many turns; in turns, so that a noisy moment hits all of them."""
    times = dict.fromkeys((workload.name for workload in workloads), float("inf"))
    end = time.monotonic() + SECONDS * len(workloads)
    while time.monotonic() < end:
        for workload in workloads:
            start = time.process_time()
            workload.run()
            times[workload.name] = min(times[workload.name], (time.process_time() - start) / workload.count)
    return times


def main() -> int:
    times = best(all_workloads())
    for name, seconds in times.items():
        print(f"{name:28} {1e6 * seconds:8.2f} us")
    broken = 0
    print()
    for slow, quick, at_least, why in RATIOS:
        ratio = times[slow] / times[quick]
        broken += ratio < at_least
        verdict = "ok" if ratio >= at_least else "BROKEN"
        print(f"{slow} / {quick}: {ratio:.1f}, at least {at_least:.2g}: {verdict} - {why}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
