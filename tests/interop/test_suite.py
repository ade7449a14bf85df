"""The suite about itself: what is installed, and that no item of the checklist is left out."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

from tests.interop.node import HERE

ITEMS = {*range(1, 14), 18, 19, 20}
"""Of the protocol's checklist; streams, invocations and group state (14 to 17) are not part of the service."""


def test_the_javascript_packages_are_exact_and_of_no_particular_registry() -> None:
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for name, entry in packages.items():
        assert "integrity" in entry, name
        assert "resolved" not in entry, name


def test_the_python_packages_are_there() -> None:
    assert version("azure-messaging-webpubsubclient") == "1.1.0"
    assert version("azure-messaging-webpubsubservice") == "1.3.0"


def test_every_item_of_the_checklist_has_a_test() -> None:
    tests = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    assert {int(item) for item in re.findall(r"def test_item_(\d+)_", tests)} == ITEMS
