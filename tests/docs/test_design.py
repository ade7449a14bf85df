"""docs/explanation/design.md names the packages, files, contracts and dependencies that exist, and leaves none out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.docs.pages import ROOT, rows, section

TEXT = (ROOT / "docs" / "explanation" / "design.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = ("core/limpet_core", "adapters/limpet")


def tree() -> set[str]:
    """Return the folders of the indented tree, relative to the root."""
    found = set()
    above: list[tuple[int, str]] = []
    for line in section(TEXT, "The tree").splitlines():
        names = re.match(r"( {4,})((?:[\w/]+/ ?)+)(?: |$)", line)
        if names is None:
            continue
        depth = len(names[1])
        above = [(column, folder) for column, folder in above if column < depth]
        parent = above[-1][1] if above else ""
        folders = [parent + name for name in names[2].split()]
        found.update(folder.rstrip("/") for folder in folders)
        above.append((depth, folders[-1]))
    return found


def test_the_tree_has_every_package_and_no_other_folder() -> None:
    named = tree()
    assert [folder for folder in sorted(named) if not (ROOT / folder).is_dir()] == []
    packages = {
        str(init.parent.relative_to(ROOT)) for package in PACKAGES for init in (ROOT / package).rglob("__init__.py")
    }
    assert packages - named == set()


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.(?:py|toml))`", TEXT)
    assert len(named) > 50
    assert {name: found for name in named if len(found := places(name)) != 1} == {}


def places(name: str) -> list[str]:
    """Return the files that a path means: in the root of the project, or in one of the two packages."""
    if name.startswith("service/"):
        return []  # both packages have this folder: the page gives the path in full
    return [base for base in ("", *PACKAGES) if (ROOT / base / name).is_file()]


def test_every_folder_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+)/`", TEXT)
    assert [name for name in named if not any((ROOT / base / name).is_dir() for base in folders())] == []


def folders() -> list[Path]:
    return [Path(), *(Path(package) for package in PACKAGES), *(Path(package) / "service" for package in PACKAGES)]


def test_every_import_contract_is_explained() -> None:
    contracts = [contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]]
    assert [row[0] for row in rows(section(TEXT, "Import contracts"))] == contracts


def test_the_contract_of_the_command_line_has_every_module_but_those_that_use_the_demo() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (named,) = (set(each["source_modules"]) for each in contracts if each["name"].startswith("of the command line"))
    modules = {f"limpet.cli.{file.stem}" for file in (ROOT / "adapters" / "limpet" / "cli").glob("*.py")}
    assert modules - named == {f"limpet.cli.{name}" for name in ("__init__", "commands", "demo")}


def test_every_dependency_has_a_reason() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = PROJECT["dependency-groups"].values()
    wanted = [PROJECT["build-system"]["requires"], PROJECT["project"]["dependencies"], *extras, *groups]
    requirements = {each for group in wanted for each in group if isinstance(each, str)}  # others include a group
    names = {re.split(r"[\[<>=;]", requirement)[0].strip() for requirement in requirements} - {"limpet"}
    table = rows(section(TEXT, "Dependencies"))
    assert {name.strip() for packages, _, _ in table for name in packages.split(",")} == names
    assert all(reason for _, _, reason in table)
