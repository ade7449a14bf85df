"""``LIMPET_LOG_LEVEL`` turns the log on for a program that sets up no logging."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import textwrap
from collections.abc import Generator

import pytest
from tests.adapters.harness import closed_port
from tests.helpers import forked
from tests.helpers.waiting import LIMIT

import limpet.asyncio
import limpet.sync
from limpet import ConnectError, State
from limpet.testing import BackgroundService

RUNS = {
    "asyncio": "import asyncio; asyncio.run(main())",
    "trio": "import trio; trio.run(main)",
    "anyio": "import anyio; anyio.run(main)",
}
ASYNC = """
    import logging, sys
    from limpet.{module} import Client

    {setup}

    async def main():
        async with Client(sys.argv[1]) as client:
            await client.send_to_group("g", "a\\x1bb")

    {run}
"""
BLOCKING = """
    import logging, sys
    from limpet.sync import Client

    {setup}

    with Client(sys.argv[1]) as client:
        client.send_to_group("g", "a\\x1bb")
"""


@pytest.fixture(scope="module")
def service() -> Generator[BackgroundService]:
    with BackgroundService() as service:
        yield service


def logged(service: BackgroundService, level: str | None, *, module: str = "sync", setup: str = "") -> list[str]:
    """Run a program that sends a message; return the lines of its standard error."""
    program = textwrap.dedent(BLOCKING if module == "sync" else ASYNC)
    program = program.format(module=module, setup=setup, run=RUNS.get(module))
    environment = {name: value for name, value in os.environ.items() if name != "LIMPET_LOG_LEVEL"}
    if level is not None:
        environment["LIMPET_LOG_LEVEL"] = level
    result = forked.run([sys.executable, "-c", program, service.url()], env=environment, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "access_token" not in result.stderr
    return result.stderr.splitlines()


@pytest.mark.parametrize("module", ["asyncio", "trio", "anyio", "sync"])
def test_the_log_of_every_client_can_be_turned_on_in_the_environment(service: BackgroundService, module: str) -> None:
    (line,) = logged(service, "info", module=module)
    assert " INFO limpet: connected: " in line


@pytest.mark.parametrize(
    ("level", "connected", "frames"),
    [
        ("verbose", True, True),
        (" VERBOSE ", True, True),
        ("debug", True, False),
        ("info", True, False),
        ("warning", False, False),
        ("error", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_the_level_says_how_much_is_shown(
    service: BackgroundService, level: str | None, connected: bool, frames: bool
) -> None:
    lines = logged(service, level)
    assert any(" INFO limpet: connected: " in line for line in lines) is connected
    assert any(' DEBUG limpet.frames: > {"type":"sendToGroup"' in line for line in lines) is frames
    if frames:
        (first,) = [line for line in lines if "limpet.frames: < " in line and '"connected"' in line]
        assert '"reconnectionToken":"***"' in first


def test_a_value_that_cannot_be_used_is_told_once_in_plain_words(service: BackgroundService) -> None:
    lines = logged(service, "loud\x1b", setup="Client(sys.argv[1]), Client(sys.argv[1])")
    assert lines == [
        "LIMPET_LOG_LEVEL is 'loud\\x1b', which is no level: use one of verbose, debug, info, warning, error"
    ]


@pytest.mark.parametrize(
    "setup",
    [
        "logging.getLogger().addHandler(logging.NullHandler())",
        "logging.getLogger('limpet').addHandler(logging.NullHandler())",
        "logging.basicConfig(level='WARNING')",  # its handler shows what the logger's level lets pass
    ],
)
def test_a_program_that_has_set_up_logging_is_left_alone(service: BackgroundService, setup: str) -> None:
    assert logged(service, "verbose", setup=setup) == []


def test_a_program_that_sets_up_logging_later_has_no_line_twice(service: BackgroundService) -> None:
    setup = "Client(sys.argv[1]); logging.basicConfig(format='%(message)s', level='INFO')"
    lines = logged(service, "info", setup=setup)
    assert [line.split(":")[0] for line in lines] == ["connected"]


def test_a_program_without_standard_error_runs_on(service: BackgroundService) -> None:
    assert logged(service, "info", setup="error, sys.stderr = sys.stderr, None") == []


@pytest.mark.parametrize("module", ["sync", *RUNS])
def test_a_program_that_closes_its_standard_error_goes_on(service: BackgroundService, module: str) -> None:
    assert logged(service, "verbose", module=module, setup="sys.stderr.close()") == []


class Raises(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the disk is full")


@pytest.fixture
def nothing_can_be_logged() -> Generator[None]:
    log, handler = logging.getLogger("limpet"), Raises()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.mark.usefixtures("nothing_can_be_logged")
def test_the_blocking_client_ends_where_nothing_can_be_logged() -> None:
    client = limpet.sync.Client(f"ws://127.0.0.1:{closed_port()}/client/hubs/chat")
    with pytest.raises(ConnectError, match=r"OSError|cannot connect"):
        client.start()
    assert client.state is State.STOPPED


@pytest.mark.usefixtures("nothing_can_be_logged")
def test_the_client_for_asyncio_ends_where_nothing_can_be_logged() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        client = limpet.asyncio.Client(f"ws://127.0.0.1:{closed_port()}/client/hubs/chat")
        with pytest.raises(ConnectError, match=r"OSError|cannot connect"):
            await asyncio.wait_for(client.start(), LIMIT)
        assert client.state is State.STOPPED

    told: list[BaseException] = []
    asyncio.run(main())
    gc.collect()
    assert {type(error) for error in told} <= {OSError}
