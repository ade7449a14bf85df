"""In which order several workers run the tests: what takes long begins first, so that all workers end together.

``--dist worksteal`` gives each worker an equal number of tests, in order. Who has none left takes the last half of what
waits at another. So a worker begins with files whose tests take many seconds each, and ends with tests of the core,
which take milliseconds: at the end there is always something small to take over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

LONG = (
    "tests/docs/test_site.py",
    "tests/release/test_release.py",
    "tests/cli/test_howto.py",
    "tests/soak/test_reconnects.py",
    "tests/docs/test_tutorial.py",
    "tests/adapters/test_frozen_process.py",
    "tests/service/cluster/test_kills.py",
    "tests/service/cluster/test_tls_and_sentinel.py",
    "tests/browser/test_accessibility.py",
    "tests/testing/test_plugin_scopes.py",
    "tests/testing/test_plugin.py",
    "tests/examples/test_docker.py",
    "tests/soak/test_a_day.py",
    "tests/soak/test_soak.py",
    "tests/pythons/test_pythons.py",
    "tests/test_benchmarks.py",
    "tests/simulation/test_simulation.py",
)
"""Files whose tests take seconds each, the longest first; some of them only wait, beside others that compute."""

QUICK = "tests/core/"


def spread(items: Sequence[T], workers: int, file_of: Callable[[T], str]) -> list[T]:
    """Return ``items`` in an order whose parts, one for each of ``workers``, begin long and end quick."""
    long: list[list[T]] = [[] for _ in range(workers)]
    for number, name in enumerate(LONG):
        long[number % workers] += [item for item in items if file_of(item) == name]
    quick = deque(item for item in items if file_of(item).startswith(QUICK))
    others = deque(item for item in items if file_of(item) not in LONG and not file_of(item).startswith(QUICK))
    share = len(quick) // workers
    ordered: list[T] = []
    for number, begin in enumerate(long):
        size = (len(items) - len(ordered)) // (workers - number)  # as xdist cuts it
        between = max(size - len(begin) - share, 0)
        ordered += begin
        ordered += [others.popleft() for _ in range(min(between, len(others)))]
        ordered += [quick.popleft() for _ in range(min(share, len(quick)))]
    return [*ordered, *others, *quick]
