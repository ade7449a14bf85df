"""``limpet.service`` imports each name when it is asked for, whoever asks, and as often as somebody does."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from unittest.mock import patch

import pytest
from tests.helpers.command_line import TIMEOUT, environment_without_limpet

import limpet.service
from limpet._extras import require

AT_ONCE = """
import threading
import limpet.service

names = [*limpet.service.__all__, "app", "certificates", "cluster", "config", "options", "server", "tokens"] * 2
barrier = threading.Barrier(len(names))

def ask(name):
    barrier.wait()
    try:
        getattr(limpet.service, name)
    except ImportError as error:
        print(name, error)

threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_may_ask_for_names_at_once() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", AT_ONCE],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment_without_limpet(),
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_name_that_a_test_has_replaced_for_a_moment_is_the_old_one_after_it() -> None:
    before = limpet.service.Service
    with patch("limpet.service.server.Service"):
        assert limpet.service.Service is not before
    assert limpet.service.Service is before
    with patch("limpet.service.Service") as replaced:
        assert limpet.service.Service is replaced
    assert limpet.service.Service is before


def test_a_module_that_a_program_has_made_itself_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_by_a_test", ModuleType("made_by_a_test"))
    require("made_by_a_test")
    monkeypatch.setitem(sys.modules, "made_by_a_test", None)
    with pytest.raises(ModuleNotFoundError, match="made_by_a_test"):
        require("made_by_a_test")
