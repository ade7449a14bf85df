from __future__ import annotations

import pytest
from tests.helpers.reports import WorkerReports, is_worker

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.fixture
def no_setup():
    raise OSError("setup")

@pytest.fixture
def no_teardown():
    yield
    raise OSError("teardown")

def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("not today")
def test_has_no_setup(no_setup): pass
def test_has_no_teardown(no_teardown): pass

@pytest.mark.skip
def test_is_left_out(): pass

@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
"""


def test_a_worker_tells_all_but_setups_and_teardowns_that_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    ran = pytester.inline_run(
        "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:hypothesispytest", plugins=[WorkerReports()]
    )
    reports = ran.getreports("pytest_runtest_logreport")
    assert [(report.nodeid.partition("::")[2], report.when, report.outcome) for report in reports] == [
        ("test_passes", "call", "passed"),
        ("test_fails", "call", "failed"),
        ("test_skips", "call", "skipped"),
        ("test_has_no_setup", "setup", "failed"),
        ("test_has_no_teardown", "call", "passed"),
        ("test_has_no_teardown", "teardown", "failed"),
        ("test_is_left_out", "setup", "skipped"),
        ("test_is_expected_to_fail", "call", "skipped"),
    ]


@pytest.mark.parametrize("option", ["durations", "xmlpath"])
def test_who_asks_for_more_gets_all_reports(
    pytestconfig: pytest.Config, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytestconfig, "workerinput", {}, raising=False)
    for other in ("durations", "xmlpath"):
        monkeypatch.setattr(pytestconfig.option, other, None)
    assert is_worker(pytestconfig)
    monkeypatch.setattr(pytestconfig.option, option, 5)
    assert not is_worker(pytestconfig)
    monkeypatch.setattr(pytestconfig.option, option, None)
    monkeypatch.delattr(pytestconfig, "workerinput")
    assert not is_worker(pytestconfig)
