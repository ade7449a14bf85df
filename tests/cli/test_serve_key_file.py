"""``limpet serve --key-file``: the access key from a file, as containers get their secrets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.cli.test_cli import limpet, running
from tests.cli.test_serve_project_key import connection_string_of, printed_by_serve
from tests.helpers.waiting import until

KEY = "a key of thirty-two bytes, or more"


@pytest.mark.parametrize("option", ["--key-file", "--access-key-file"])
def test_the_key_is_the_content_of_the_file(tmp_path: Path, option: str) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n", "utf-8")
    ready = tmp_path / "ready.json"
    with running("serve", "--port", "0", "--ready-file", str(ready), option, str(tmp_path / "key")):
        until(ready.exists)
        assert f";AccessKey={KEY};" in json.loads(ready.read_text("utf-8"))["connectionString"]


@pytest.mark.skipif(sys.platform == "win32", reason="the line is for a shell")
def test_the_key_is_not_printed_but_a_line_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a key").write_text(f"{KEY}\n", "utf-8")
    printed = printed_by_serve("--key-file", str(tmp_path / "a key"))
    assert KEY not in printed
    assert f"The access key of this service, {KEY[:4]}..., is in {tmp_path / 'a key'}." in printed
    line = next(line for line in printed.split("\n") if "export" in line)
    assert f";AccessKey={KEY};" in connection_string_of(line)


@pytest.mark.skipif(sys.platform == "win32", reason="the line is for a shell")
@pytest.mark.parametrize("name", ["-n", "a'b\"c$(exit 1)"])
def test_the_line_reads_files_of_all_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(f"{KEY}\n", "utf-8")
    printed = printed_by_serve(f"--key-file={name}")
    assert KEY not in printed
    line = next(line for line in printed.split("\n") if "export" in line)
    assert f";AccessKey={KEY};" in connection_string_of(line)


def test_a_variable_names_the_file_too(tmp_path: Path) -> None:
    refused = limpet("serve", "--port", "0", LIMPET_ACCESS_KEY_FILE=str(tmp_path / "key"))
    assert refused.returncode == 2
    assert "No such file" in refused.stderr


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file"),
        (b" \n", "the file has no key"),
        (b"\xef\xbb\xbf" + b"k" * 32, "byte order mark"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_file_without_a_key_is_told(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    refused = limpet("serve", "--port", "0", "--key-file", str(path))
    assert refused.returncode == 2
    assert f"--key-file {path}: " in " ".join(refused.stderr.split())
    assert text in refused.stderr


def test_a_key_and_a_file_are_one_too_many(tmp_path: Path) -> None:
    refused = limpet("serve", "--port", "0", "--key", KEY, "--key-file", str(tmp_path / "key"))
    assert refused.returncode == 2
    assert "give one of them" in refused.stderr
    assert KEY not in refused.stderr


def test_a_key_that_is_too_short_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a secret\n")
    refused = limpet("serve", "--port", "0", "--key-file", str(tmp_path / "key"))
    assert refused.returncode == 2
    said = " ".join(refused.stderr.split())
    assert f"--key-file {tmp_path / 'key'}: the key in the file has 8 bytes, and needs at least 32" in said
    assert "a secret" not in said
