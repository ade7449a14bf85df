"""What holds for all tests.

Profiles of hypothesis are chosen by the environment variable LIMPET_PROFILE: quick (the default), ci, long. Quick and
ci have the same examples each time; long draws others, and may take as long as it likes. A test that names its own
number of examples does so through ``tests.helpers.profiles``, so that it grows with the profile.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.helpers.needs import everything_is_required

PROFILE = os.environ.get("LIMPET_PROFILE", "quick")
SLOW = list(HealthCheck)

settings.register_profile("quick", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("ci", settings.get_profile("quick"), max_examples=300, print_blob=True)
settings.register_profile("long", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
settings.load_profile(PROFILE)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a shell runs in the background, and so it would be for the programs that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_HERE = Path(__file__).parent
_NEEDY = {_HERE / "interop", _HERE / "browser"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROFILE == "long":
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is required, no test with Node or a browser is skipped, for whatever reason."""
    report = yield
    if report.skipped and everything_is_required() and _NEEDY & set(item.path.parents):
        report.outcome = "failed"
        report.longrepr = f"skipped, though LIMPET_REQUIRE_ALL=1 says that no test may be left out: {report.longrepr}"
    return report
