"""The package as users see it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
import holdfast_core

ROOT = Path(__file__).parent.parent


def test_users_get_every_public_name_of_the_core() -> None:
    assert set(holdfast_core.__all__) <= set(holdfast.__all__)
    for name in holdfast.__all__:
        assert hasattr(holdfast, name)


@pytest.mark.parametrize("name", [name for name in holdfast.__all__ if isinstance(getattr(holdfast, name), type)])
def test_public_classes_say_the_name_that_users_import(name: str) -> None:
    assert getattr(holdfast, name).__module__ == "holdfast"


def test_events_and_errors_can_be_pickled() -> None:
    error = holdfast.SendError(3, "Forbidden", "no", "rejected")
    for value in (holdfast.Connected("id", "user"), holdfast.Acked(3, None, True), error):
        copy = pickle.loads(pickle.dumps(value))
        assert str(copy) == str(value)
        assert type(copy) is type(value)


def test_importing_holdfast_imports_no_event_loop_and_no_server() -> None:
    code = (
        "import sys, holdfast; "
        "print([name for name in ('asyncio', 'trio', 'anyio', 'ssl', 'uvicorn', 'starlette', 'jwt', 'click') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_who_imports_a_client_from_holdfast_is_told_where_there_is_one() -> None:
    with pytest.raises(ImportError, match=r"from holdfast\.asyncio import Client, or holdfast\.trio"):
        from holdfast import Client  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'Clyent'"):
        from holdfast import Clyent  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(AttributeError, match="module 'holdfast' has no attribute 'start'"):
        holdfast.start  # type: ignore[attr-defined]  # noqa: B018
    assert "Client" not in dir(holdfast)


def test_every_state_is_explained_in_one_line() -> None:
    for state in holdfast.State:
        assert f"\n        {state.name}: " in (holdfast.State.__doc__ or "")


def test_the_state_diagram_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_diagram.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("holdfast.trio", "trio", "trio"),
        ("holdfast.anyio", "anyio", "anyio"),
        ("holdfast.connect.websockets", "websockets", "websockets"),
        ("holdfast.connect.aiohttp", "aiohttp", "aiohttp"),
        ("holdfast.connect.picows", "picows", "picows"),
        ("holdfast.service", "starlette", "service"),
        ("holdfast.testing", "starlette", "service"),
    ],
)
def test_a_part_whose_package_is_not_installed_says_how_to_get_it(module: str, package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import {module}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1].endswith(
        f"{package} is not installed; get it with: pip install 'holdfast[{extra}]'"
    )


def test_the_command_line_without_its_packages_says_how_to_get_them() -> None:
    code = "import sys; sys.modules['click'] = None; from holdfast.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "holdfast: click is not installed; get it with: pip install 'holdfast[cli]'\n"
