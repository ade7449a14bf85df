"""What a release consists of, and what `make release` refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.release import __main__ as release
from tests.release import built, extras
from tests.release.extras import NONE, ROOT

pytestmark = pytest.mark.timeout(1200)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel of this checkout."""
    return built.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def unpacked(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built.unpack(files[0], tmp_path_factory.mktemp("sdist"))


def run_from(folder: Path, *arguments: str) -> str:
    """Run Python in an unpacked sdist, with the packages that are there and not those of this checkout."""
    environment = os.environ | {"PYTHONPATH": f"{folder / 'core'}{os.pathsep}{folder / 'adapters'}"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_files_pass_the_checks_of_the_index(files: tuple[Path, Path]) -> None:
    built.check(*files)


def test_the_readme_of_the_index_has_no_link_that_leads_nowhere(files: tuple[Path, Path]) -> None:
    metadata = built.metadata(files[1])
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = str(metadata.get_payload())
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("#")]
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    source = PROJECT["urls"]["Source"]
    ours = [link.removeprefix(source).partition("#")[0] for link in links if link.startswith(source)]
    assert ours
    assert [path for path in ours if not (ROOT / path).exists()] == []


def test_the_index_is_told_where_to_look(files: tuple[Path, Path]) -> None:
    urls = dict(url.split(", ", 1) for url in built.metadata(files[1]).get_all("Project-URL", []))
    assert set(urls) == {"Documentation", "Source", "Changelog", "Issues"}
    assert all(url.startswith("https://") for url in urls.values())
    assert urls["Changelog"] == urls["Source"] + "CHANGELOG.md"


def test_the_sdist_has_all_that_is_under_version_control(unpacked: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no checkout: nothing tells what is under version control")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    missing = [name for name in listed.splitlines() if (ROOT / name).exists() and not (unpacked / name).exists()]
    assert missing == []


def test_tests_run_from_the_sdist(unpacked: Path) -> None:
    where = run_from(unpacked, "-c", "import limpet, limpet_core; print(limpet.__file__, limpet_core.__file__)")
    assert where.count(str(unpacked)) == 2
    part = [  # of the core, of the documentation, and with sockets and the examples
        "tests/core/test_errors.py",
        "tests/docs/test_links.py",
        "tests/docs/test_prose.py",
        "tests/examples/test_examples.py::test_two_people_chat",
    ]
    output = run_from(unpacked, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *part)
    assert re.search(r"\d{3,} passed", output), output


def test_the_demo_runs_from_the_sdist(unpacked: Path) -> None:
    commands = re.findall(r"^demo:.*\n\t@?\$\(BIN\)/limpet (.*)$", (unpacked / "Makefile").read_text("utf-8"), re.M)
    assert commands == ["demo"]
    assert run_from(unpacked, "-m", "limpet", "demo", "--seconds", "2")


@pytest.mark.parametrize("extra", [NONE, "cli"], ids=["alone", "cli"])
def test_the_wheel_works_on_a_clean_machine(files: tuple[Path, Path], extra: str, tmp_path: Path) -> None:
    """`make release` tries all extras."""
    assert extras.problem(files[1], extra, tmp_path) == ""


def test_a_wheel_that_lacks_something_is_noticed(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extras.USES, NONE, "import trio")
    assert "No module named 'trio'" in extras.problem(files[1], NONE, tmp_path)


def test_every_extra_is_tried() -> None:
    assert set(extras.declared()) <= set(extras.USES)


@pytest.mark.parametrize(
    ("text", "draft", "problem"),
    [
        ("# Changelog\n\n## 1.2.3 - 2030-01-31\n\n## 1.2.2 - 2029-01-31\n", False, ""),
        ("# Changelog\n\n## 1.2.3 - unreleased\n", True, ""),
        ("# Changelog\n\n## 1.2.3 - unreleased\n", False, "'unreleased' for the date of 1.2.3"),
        ("# Changelog\n\n## 1.2.4 - 2030-01-31\n\n## 1.2.3 - 2029-01-31\n", True, "is of version 1.2.4"),
        ("# Changelog\n", True, "is of version none"),
    ],
)
def test_the_changelog_must_be_that_of_the_version(text: str, draft: bool, problem: str) -> None:
    if not problem:
        built.check_changelog(text, "1.2.3", draft=draft)
        return
    with pytest.raises(built.ReleaseError, match=problem):
        built.check_changelog(text, "1.2.3", draft=draft)


def test_the_version_is_that_of_the_changelog_here() -> None:
    built.check_changelog((ROOT / "CHANGELOG.md").read_text("utf-8"), built.version(), draft=True)


def test_what_is_not_committed_is_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "adapters" / "limpet").mkdir(parents=True)
    (tmp_path / "adapters" / "limpet" / "_version.py").write_text('__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("## 0.1.0 - 2030-01-31\n")
    (tmp_path / "dist").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(built, "ROOT", tmp_path)
    monkeypatch.setattr(built, "run", lambda *command: _git(tmp_path, *command))
    assert release.main([]) == 1
    assert "commit these files first" in capsys.readouterr().err
    assert (tmp_path / "dist").exists(), "the files of before are still there"


def _git(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_what_to_upload_is_printed_with_digests(tmp_path: Path) -> None:
    path = tmp_path / "limpet-0.1.0.tar.gz"
    path.write_bytes(b"x" * 2000)
    text = built.to_upload(path)
    assert "limpet-0.1.0.tar.gz  2,000 bytes  sha256 " in text
    assert f"twine upload {path}" in text
    assert f"git tag -a v{built.version()}" in text


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_the_versions_that_are_tested_are_those_that_are_told(minor: int) -> None:
    from tests.pythons.interpreters import NAMES

    assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]
    assert f"python3.{minor}" in NAMES
