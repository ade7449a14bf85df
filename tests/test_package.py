"""The package as users see it."""

from __future__ import annotations

import ast
import inspect
import pickle
import pkgutil
import pydoc
import re
import subprocess
import sys
import typing
from pathlib import Path

import msgspec
import pytest

import limpet
import limpet_core

ROOT = Path(__file__).parent.parent


def test_users_get_every_public_name_of_the_core() -> None:
    assert set(limpet_core.__all__) <= set(limpet.__all__)
    for name in limpet.__all__:
        assert hasattr(limpet, name)


@pytest.mark.parametrize("name", [name for name in limpet.__all__ if isinstance(getattr(limpet, name), type)])
def test_public_classes_say_the_name_that_users_import(name: str) -> None:
    assert getattr(limpet, name).__module__ == "limpet"


@pytest.mark.parametrize("name", [name for name in limpet.__all__ if inspect.isroutine(getattr(limpet, name))])
def test_help_of_every_public_function_can_be_had(name: str) -> None:
    public = getattr(limpet, name)
    inspect.signature(public)
    typing.get_type_hints(public)
    assert pydoc.render_doc(public)


@pytest.mark.parametrize("name", [name for name in limpet.__all__ if isinstance(getattr(limpet, name), type)])
def test_help_of_every_public_class_can_be_had(name: str) -> None:
    public = getattr(limpet, name)
    inspect.signature(public)
    typing.get_type_hints(public)
    assert pydoc.render_doc(public)


def test_help_of_the_package_can_be_had() -> None:
    assert "Options" in pydoc.render_doc(limpet)


def test_options_can_be_read_from_a_table() -> None:
    assert msgspec.convert({"resend": "always"}, limpet.Options) == limpet.Options(resend="always")


def test_events_and_errors_can_be_pickled() -> None:
    error = limpet.SendError(3, "Forbidden", "no", "rejected")
    for value in (limpet.Connected("id", "user"), limpet.Acked(3, None, True), error):
        copy = pickle.loads(pickle.dumps(value))
        assert str(copy) == str(value)
        assert type(copy) is type(value)


def test_importing_limpet_imports_no_event_loop_and_no_server() -> None:
    code = (
        "import sys, limpet; "
        "print([name for name in ('asyncio', 'trio', 'anyio', 'ssl', 'uvicorn', 'starlette', 'jwt', 'click') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_names_of_the_service_are_there_before_they_are_imported() -> None:
    code = (
        "import sys; from limpet import service; "
        "assert 'uvicorn' not in sys.modules; "
        "assert set(service.__all__) <= set(dir(service)); "
        "assert service.options.ServiceOptions is service.ServiceOptions; "
        "assert all(getattr(service, name).__name__ == name for name in service.__all__); "
        "service.nothing"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == "AttributeError: module 'limpet.service' has no attribute 'nothing'"


def test_who_imports_a_client_from_limpet_is_told_where_there_is_one() -> None:
    with pytest.raises(ImportError, match=r"from limpet\.asyncio import Client, or limpet\.trio"):
        from limpet import Client  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'Clyent'"):
        from limpet import Clyent  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(AttributeError, match="module 'limpet' has no attribute 'start'"):
        limpet.start  # type: ignore[attr-defined]  # noqa: B018
    assert "Client" not in dir(limpet)


def test_a_module_that_is_not_imported_is_named() -> None:
    code = "import limpet; limpet.service"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = "AttributeError: module 'limpet' has no attribute 'service': write import limpet.service"
    assert result.stderr.splitlines()[-1].startswith(said)
    modules = {each.name for each in pkgutil.iter_modules(limpet.__path__) if not each.name.startswith("_")}
    assert modules - {"cli"} == limpet._MODULES


def test_every_state_is_explained_in_one_line() -> None:
    for state in limpet.State:  # the docstring as every Python shows it: from 3.13 on, it has no indentation
        assert f"\n    {state.name}: " in (inspect.getdoc(limpet.State) or "")


@pytest.mark.parametrize("script", ["make_diagram.py", "make_methods.py"])
def test_the_pages_about_states_are_up_to_date(script: str) -> None:
    command = [sys.executable, str(ROOT / "docs" / script), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("limpet.trio", "trio", "trio"),
        ("limpet.anyio", "anyio", "anyio"),
        ("limpet.connect.websockets", "websockets", "websockets"),
        ("limpet.connect.aiohttp", "aiohttp", "aiohttp"),
        ("limpet.connect.picows", "picows", "picows"),
        ("limpet.opentelemetry", "opentelemetry", "opentelemetry"),
        ("limpet.service", "starlette", "service"),
        ("limpet.testing", "starlette", "service"),
        ("limpet.service._event_hubs", "azure.eventhub", "eventhubs"),
        ("limpet.service.cluster.redis", "hiredis", "cluster"),
    ],
)
def test_a_part_whose_package_is_not_installed_says_how_to_get_it(module: str, package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import {module}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    name = package.replace(".", "-")
    assert result.stderr.splitlines()[-1].endswith(
        f"{name} is not installed; get it with: pip install 'limpet[{extra}]'"
    )


def test_the_command_line_without_its_packages_says_how_to_get_them() -> None:
    code = "import sys; sys.modules['click'] = None; from limpet.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "limpet: click is not installed; get it with: pip install 'limpet[cli]'\n"


KNOWS_THE_CORE = ROOT / "simulation" / "inspect.py"
GENERATED = "_wire"
"""The messages of protobuf, which are no state: the name is private so that type checkers do not count them as ours."""
CORE_OBJECTS = {"session", "link", "core", "connection", "requests", "dial"}


def private_uses(path: Path) -> list[str]:
    """Where the code of ``path`` uses a private name of an object or module of the core, as far as names tell."""
    used: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("limpet_core"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1].lstrip("_") in (CORE_OBJECTS):
            names = [node.attr]
        else:
            continue
        private = [name for name in names if re.match("_[a-z]", name) and name != GENERATED]
        used += [f"{path.relative_to(ROOT)}:{node.lineno}: {name}" for name in private]
    return used


@pytest.mark.parametrize("folder", ["tests", "simulation", "fuzz", "benchmarks"])
def test_one_module_alone_knows_the_private_state_of_the_core(folder: str) -> None:
    assert private_uses(KNOWS_THE_CORE), "the check still finds what it looks for"
    found = [use for path in (ROOT / folder).rglob("*.py") if path != KNOWS_THE_CORE for use in private_uses(path)]
    assert not found
