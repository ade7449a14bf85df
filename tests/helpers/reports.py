"""Fewer reports from workers: a setup and a teardown that pass are not told to the process that gathers the results.

Of each test there are three reports, which one process reads for all workers: two of them say nothing.
"""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol


class WorkerReports:
    """Runs the tests of a worker, and sends what its controller shows: calls, and all that fails or is skipped."""

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed:
                item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another one; ``--durations`` and reports in XML need all reports."""
    return hasattr(config, "workerinput") and not config.getoption("durations") and not config.getoption("xmlpath")
