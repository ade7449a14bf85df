"""``limpet serve --key`` without a key: one for the project, in a file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_cli import limpet, running
from tests.helpers.command_line import environment_without_limpet

from limpet.cli import _key_file
from limpet.cli._key_file import project_key
from limpet.service import client_url


def printed_by_serve(*options: str) -> str:
    """Return what ``limpet serve`` prints, up to the last URL."""
    with running("serve", "--port", "0", *options) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while sum("ws://" in line for line in lines) < 2:
            line = process.stdout.readline()
            assert line, process.communicate()
            lines.append(line)
    return "".join(lines)


def connection_string_of(line: str) -> str:
    """Return the connection string that a shell has after the line that ``limpet serve`` prints for it."""
    shell = subprocess.run(
        ["sh", "-c", f'{line}\nprintf %s "$LIMPET_CONNECTION_STRING"'],
        capture_output=True,
        text=True,
        check=True,
        env=environment_without_limpet(),
    )
    return shell.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_start_writes_it_and_the_next_ones_have_the_same(project: Path) -> None:
    first = printed_by_serve("--key")
    path = project / ".limpet" / "access-key"
    key = path.read_text("utf-8").strip()
    assert len(key) == 64
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        # Who may write to the folder could put another key there.
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # The last option of a line, and one before others.
    second = printed_by_serve("--access-key", "--hub", "news")
    assert path.read_text("utf-8").strip() == key
    for printed in (first, second):
        assert key not in printed
        assert f"The access key of this project, {key[:4]}..., is in {path}." in printed


@pytest.mark.skipif(sys.platform == "win32", reason="the line is for a shell")
def test_the_line_that_is_printed_gives_the_connection_string(project: Path) -> None:
    line = next(line for line in printed_by_serve("--key").split("\n") if "export" in line)
    connection_string = connection_string_of(line)
    assert f";AccessKey={project_key()};" in connection_string
    assert client_url(connection_string).startswith("ws://127.0.0.1:")


def test_a_key_and_a_variable_are_as_they_were(project: Path) -> None:
    own = "a key of thirty-two bytes, or more"
    assert f";AccessKey={own};" in printed_by_serve("--key", own)
    assert f";AccessKey={own};" in printed_by_serve(f"--access-key={own}")
    refused = limpet("serve", "--port", "0", LIMPET_ACCESS_KEY="short")
    assert "access_key must have" in refused.stderr
    refused = limpet("serve", "--port", "0", "--key", "--key-file", "none")
    assert "give one of them" in refused.stderr
    assert not (project / ".limpet").exists()


@pytest.mark.parametrize(
    ("content", "text"), [("", "the file has no key"), ("short", "has 5 bytes, and needs at least 32")]
)
def test_a_file_without_a_usable_key_is_told(project: Path, content: str, text: str) -> None:
    (project / ".limpet").mkdir()
    (project / ".limpet" / "access-key").write_text(content, "utf-8")
    assert text in " ".join(limpet("serve", "--port", "0", "--key").stderr.split())


def test_a_place_where_nothing_can_be_written_is_told(project: Path) -> None:
    (project / ".limpet").write_text("a file", "utf-8")
    refused = limpet("serve", "--port", "0", "--key")
    assert "no key can be written" in " ".join(refused.stderr.split())


def test_of_two_starts_at_once_both_have_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project / ".limpet" / "access-key"

    def link(draft: Path, target: Path) -> None:
        path.write_text("the key of the other, which is long enough\n", "utf-8")
        raise FileExistsError

    monkeypatch.setattr(_key_file.os, "link", link)
    assert project_key() == "the key of the other, which is long enough"
    assert sorted(os.listdir(path.parent)) == [".gitignore", "access-key"]


@pytest.mark.parametrize("other", [None, "the key of the other, which is long enough"])
def test_a_disk_without_links_will_do(project: Path, monkeypatch: pytest.MonkeyPatch, other: str | None) -> None:
    path = project / ".limpet" / "access-key"

    def link(draft: Path, target: Path) -> None:
        if other is not None:
            path.write_text(other, "utf-8")
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(_key_file.os, "link", link)
    key = project_key()
    assert key == (other or path.read_text("utf-8").strip())
    assert project_key() == key
    assert sorted(os.listdir(path.parent)) == [".gitignore", "access-key"]
    if other is None and sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == [".gitignore", "access-key"]


def test_git_ignores_the_key_unless_somebody_has_decided_otherwise(project: Path) -> None:
    project_key()
    ignored = project / ".limpet" / ".gitignore"
    assert ignored.read_text("utf-8") == "*\n"
    ignored.write_text("", "utf-8")
    (project / ".limpet" / "access-key").unlink()
    project_key()
    assert ignored.read_text("utf-8") == ""
