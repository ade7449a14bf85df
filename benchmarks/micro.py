"""The core alone, to compare commits: ``python benchmarks/micro.py -o before.json``, later ``-o after.json``, then
``python -m pyperf compare_to before.json after.json``. All options are pyperf's; ``--fast`` is a quick look.
"""

from __future__ import annotations

import pyperf
from _service_workloads import service_workloads
from _workloads import all_workloads


def main() -> None:
    runner = pyperf.Runner()
    for workload in [*all_workloads(), *service_workloads()]:
        runner.bench_func(workload.name, workload.run, inner_loops=workload.count)


if __name__ == "__main__":
    main()
