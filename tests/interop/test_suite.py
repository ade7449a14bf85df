"""The official packages that are installed for this suite."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

from tests.interop.node import HERE


def test_the_javascript_packages_are_exact_and_of_no_particular_registry() -> None:
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+(-beta\.\d+)?", version) for version in wanted.values())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for name, entry in packages.items():
        assert "integrity" in entry, name
        assert "resolved" not in entry, name


def test_the_python_packages_are_there() -> None:
    assert version("azure-messaging-webpubsubclient") == "1.1.0"
    assert version("azure-messaging-webpubsubservice") == "1.3.0"
