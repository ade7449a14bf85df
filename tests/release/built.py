"""The files of a release, and what can be said of them without installing them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[2]


class ReleaseError(Exception):
    """Something is not ready for a release; the text says what, and what to do."""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a program of this environment; return what it prints. Raises :class:`ReleaseError` if it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command[:4]))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(target: Path, source: Path = ROOT) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it; return both paths."""
    run(sys.executable, "-m", "build", "--outdir", target, source)
    (sdist,), (wheel,) = target.glob("limpet-*.tar.gz"), target.glob("limpet-*.whl")
    return sdist, wheel


def check(sdist: Path, wheel: Path) -> None:
    """Check metadata, the rendered README, and the content of the wheel."""
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    run(Path(sys.executable).with_name("check-wheel-contents"), "--toplevel", "limpet,limpet_core", wheel)


def metadata(wheel: Path) -> Message:
    """Return the metadata of the wheel; the README is the payload."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def unpack(sdist: Path, target: Path) -> Path:
    """Unpack the sdist; return its folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    (folder,) = target.iterdir()
    return folder


def version() -> str:
    """Return the version in the source."""
    source = (ROOT / "adapters" / "limpet" / "_version.py").read_text("utf-8")
    found = re.search(r'"(\d+\.\d+\.\d+\S*)"', source)
    if found is None:
        raise ReleaseError("adapters/limpet/_version.py has no version")
    return found[1]


def check_changelog(text: str, version: str, *, draft: bool = False) -> None:
    """Check that the newest part of the changelog is that of the version, and has a date; a draft needs no date."""
    found = re.search(r"^## (\S+) - (.+)$", text, re.MULTILINE)
    newest, date = found.groups() if found is not None else ("none", "")
    if newest != version:
        raise ReleaseError(f"the newest part of CHANGELOG.md is of version {newest}, and the source is {version}")
    if not draft and not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise ReleaseError(f"CHANGELOG.md has {date!r} for the date of {version}: write the day, as 2030-01-31")


def check_committed() -> None:
    """Check that the source is what version control has: what is built is what others can look up."""
    changed = run("git", "status", "--porcelain")
    if changed:
        raise ReleaseError(f"commit these files first, or remove them:\n{changed}")


def to_upload(*files: Path) -> str:
    """Return the text with what is to be uploaded, and how."""
    name = f"v{version()}"
    lines = [
        f"{path.name}  {path.stat().st_size:,} bytes  sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in files
    ]
    commands = [f"git tag -a {name} -m {name}", f"twine upload {' '.join(map(str, files))}", f"git push origin {name}"]
    return "\n".join(["Ready for upload:", *(f"  {line}" for line in lines), "Then:", *(f"  {it}" for it in commands)])
