"""The code in the how-to about metrics runs, and its tables name all metrics that there are."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT
from tests.helpers import forked
from tests.helpers.waiting import complaints

from limpet.opentelemetry._metrics import Metrics
from limpet.service._metrics import ServiceMetrics
from limpet.service.cluster import ClusterView, LogState
from limpet.testing import VirtualService

TEXT = (ROOT / "docs" / "howto" / "metrics.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_code_runs(number: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(EXAMPLES[number], "utf-8")
    command = [sys.executable, "-X", "dev", "-W", "error", program.name]
    done = forked.run(command, cwd=tmp_path, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert complaints(done.stderr) == ""


def test_the_table_has_every_metric_of_clients() -> None:
    names: set[str] = set()

    class Meter:
        def __getattr__(self, method: str) -> object:
            def create(name: str, *_: object, **__: object) -> None:
                names.add(name)

            return create

    Metrics(Meter())  # type: ignore[arg-type]
    assert names == set(re.findall(r"`((?:messaging|limpet)\.client\.[a-z.]+|messaging\.process\.duration)`", TEXT))


def test_the_table_has_every_metric_of_the_service() -> None:
    log = LogState("replica", "a:1", "b:1", 0.0, 0, 0, False, 0, 0, None)
    view = ClusterView("a", "0", None, (), log, 1, 0, 0, 0)
    families = ServiceMetrics(VirtualService().core, lambda: view).collect()
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert names == set(re.findall(r"`(limpet_[a-z_]+)`", TEXT))
