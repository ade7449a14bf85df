"""The how-to about a service for a team says what is true of the command and of its options."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from tests.cli.test_cli import running
from tests.helpers import forked
from tests.helpers.waiting import until

from limpet.service import load_options

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "run-the-service-for-a-team.md"
TEXT = PAGE.read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_code_runs() -> None:
    (code,) = blocks("python")
    done = forked.run([sys.executable, "-W", "error", "-c", code], text=True)
    assert done.returncode == 0, done.stderr


def test_the_options_open_what_they_are_said_to_open(tmp_path: Path) -> None:
    (toml,) = blocks("toml")
    path = tmp_path / "limpet.toml"
    path.write_text(toml, "utf-8")
    options = load_options(str(path))
    assert (options.trace, options.negotiate) == (True, True)


@pytest.fixture(scope="module")
def help_text() -> str:
    command = [sys.executable, "-m", "limpet", "serve", "--help"]
    return " ".join(forked.run(command, text=True, check=True).stdout.split())


def test_every_option_and_variable_on_the_page_is_one_of_serve(help_text: str) -> None:
    of_limpet = re.findall(r"limpet(?::local)? serve [^\n`]*", TEXT)
    options = {option for line in of_limpet for option in re.findall(r"--[a-z-]+", line)}
    options |= set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert {"--host", "--key-file", "--ready-file", "--with-parent"} <= options
    assert [option for option in sorted(options) if option not in help_text] == []
    variables = set(re.findall(r"`(LIMPET_[A-Z_]+)`", TEXT))
    assert variables == {"LIMPET_ACCESS_KEY", "LIMPET_ACCESS_KEY_FILE"}
    assert [variable for variable in variables if variable not in help_text] == []


def test_the_fields_of_the_ready_file_are_those_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with running("serve", "--port", "0", "--ready-file", str(path)):
        until(path.exists)
        content = json.loads(path.read_text("utf-8"))
    sentence = re.search(r"It is JSON:[^.]*", TEXT)
    assert sentence is not None
    fields = re.findall(r"`([a-zA-Z]+)`", sentence[0])
    assert len(fields) == 5
    assert [field for field in fields if field not in content] == []
