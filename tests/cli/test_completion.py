"""``limpet completion``: in a real bash, if there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers.command_line import TIMEOUT, environment_without_limpet, limpet

# What bash does when the user presses Tab behind the words.
_TAB = """
eval "$(limpet completion bash)"
complete -p limpet || exit 1
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_limpet_completion limpet 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def tab(*words: str) -> list[str]:
    """Return what bash offers for the last of ``words``."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", _TAB, "bash", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**environment_without_limpet(), "PATH": path},
        check=True,
    )
    registered, *offered = done.stdout.split("\n")[:-1]
    assert registered.split()[-2:] == ["_limpet_completion", "limpet"], done.stderr
    return offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["limpet", "s"], ["serve", "sub", "state"]),
        (["limpet", "serve", "--re"], ["--ready-file"]),
        (["limpet", "pub", "--ne"], ["--negotiate", "--negotiate-header"]),
        (["limpet", "completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes_commands_and_options(words: list[str], offered: list[str]) -> None:
    assert tab(*words) == offered


@pytest.mark.parametrize(
    ("shell", "line"),
    [("bash", "complete -o nosort -F _limpet_completion limpet"), ("zsh", "#compdef limpet"), ("fish", "complete ")],
)
def test_each_shell_has_its_script(shell: str, line: str) -> None:
    printed = limpet("completion", shell)
    assert printed.returncode == 0, printed.stderr
    assert line in printed.stdout


def test_the_help_says_where_the_script_goes() -> None:
    told = limpet("completion", "--help").stdout
    assert """echo 'eval "$(limpet completion bash)"' >> ~/.bashrc""" in told
    assert "~/.config/fish/completions/limpet.fish" in told


def test_optional_arguments_look_optional() -> None:
    usage = {command: limpet(command, "--help").stdout.split("\n")[0] for command in ("sub", "pub", "invoke", "bench")}
    assert {command: line.partition("[OPTIONS] ")[2] for command, line in usage.items()} == {
        "sub": "[GROUP]...",
        "pub": "GROUP [DATA]...",
        "invoke": "EVENT [DATA]",
        "bench": "[URL]",
    }
