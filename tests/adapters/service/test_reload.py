"""Options that change while the service runs: by a call, and by a file."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.adapters.service.sockets import Client
from tests.adapters.service.webhook import QUIET, ask, open_client, outcome, run, running, webhook
from tests.helpers.waiting import LIMIT

from limpet.service import HubOptions, Service, ServiceOptions, _follow, follow_options, load_options

KEY = "0123456789abcdef0123456789abcdef"


def test_handlers_change_under_a_client_that_stays_connected() -> None:
    async def scenario() -> None:
        async with webhook() as hook, running(ServiceOptions()) as service:
            client = await open_client(service)
            assert outcome(await ask(client)) == "NotFound"
            assert service.reload(hook.options(**QUIET)) == ("access_key", "secondary_access_key")
            assert outcome(await ask(client)) == "success"
            await hook.next("order")
            assert service.options.access_key is None
            service.reload(ServiceOptions())
            assert outcome(await ask(client)) == "NotFound"
            await client.leave()

    run(scenario())


def test_who_may_connect_changes() -> None:
    async def scenario() -> None:
        async with running(ServiceOptions()) as service:
            url = service.client_url().partition("?")[0]
            with pytest.raises(Exception, match="401"):
                await Client.open(url)
            assert service.reload(ServiceOptions(hubs={"chat": HubOptions(anonymous=True)})) == ()
            client = await Client.open(url)
            service.reload(ServiceOptions(anonymous=True, max_connections=1))
            with pytest.raises(Exception, match="429"):
                await Client.open(url)
            await client.leave()

    run(scenario())


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_follow, "_PAUSE", 0.01)


class Followed:
    """A service that takes the options in a file."""

    def __init__(self, service: Service, path: Path, records: list[str]) -> None:
        self.service = service
        self.path = path
        self.records = records
        self.changes: asyncio.Queue[None] = asyncio.Queue()
        self.reads: asyncio.Queue[None] = asyncio.Queue()

    def read(self) -> ServiceOptions:
        self.reads.put_nowait(None)
        return load_options(self.path)

    async def changed(self, text: str) -> ServiceOptions:
        self.path.write_text(text, "utf-8")
        await asyncio.wait_for(self.changes.get(), LIMIT)
        return self.service.options

    async def told(self, text: str) -> str:
        """Wait for a warning with this text, and return it."""
        async with asyncio.timeout(LIMIT):
            while not any(text in record for record in self.records):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (record,) = self.records
        self.records.clear()
        return record


class Listed(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.asynccontextmanager
async def following(path: Path, text: str = "") -> AsyncIterator[Followed]:
    path.write_text(text, "utf-8")  # noqa: ASYNC240 - a few bytes
    listed, logger = Listed(), logging.getLogger("limpet.service")
    logger.addHandler(listed)
    try:
        async with running(ServiceOptions()) as service:
            followed = Followed(service, path, listed.lines)
            task = asyncio.create_task(
                follow_options(service, path, read=followed.read, on_change=lambda: followed.changes.put_nowait(None))
            )
            try:
                yield followed
            finally:
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
    finally:
        logger.removeHandler(listed)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path / "limpet.toml") as followed:
            options = await followed.changed('[[hubs.chat.event_handlers]]\nurl = "http://a.example/"')
            assert options.hub("chat").event_handlers[0].url == "http://a.example/"
            assert (await followed.changed("\ufeffnegotiate = false")) == ServiceOptions(negotiate=False)
            # What means the same is read, and is no change.
            while not followed.reads.empty():
                followed.reads.get_nowait()
            followed.path.write_text("negotiate = false  # still", "utf-8")
            await asyncio.wait_for(followed.reads.get(), LIMIT)
            assert followed.changes.empty()
            assert followed.records == []

    run(scenario())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("negotiate =", "end of document"),
        ("negotiated = true", "no option 'negotiated'"),
        ('[[hubs.chat.event_handlers]]\nurl = "ftp://a/"', "not the URL"),
        ('[[hubs.chat.event_handlers]]\nurl = "http://a/"\nsystem_events = ["closed"]', "not a system event"),
        ("negotiate = true\nmax_connections = 0", "max_connections"),
        ("\x00", "line 1"),
        ("a = " + "[" * 10_000, "nested too deeply"),
    ],
)
def test_a_wrong_edit_is_told_once_and_changes_nothing(tmp_path: Path, wrong: str, text: str) -> None:
    async def scenario() -> None:
        async with following(tmp_path / "limpet.toml", "negotiate = false") as followed:
            await asyncio.wait_for(followed.changes.get(), LIMIT)
            before = followed.service.options
            followed.path.write_text(wrong, "utf-8")
            told = await followed.told(text)
            assert told.startswith(f"a change is not taken, and the service goes on as before: {followed.path}: ")
            assert "\n" not in told
            assert followed.service.options is before
            assert (await followed.changed("")).negotiate is None
            assert followed.records == []

    run(scenario())


def test_a_file_that_is_gone_is_told_and_may_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path / "limpet.toml", "anonymous = true") as followed:
            await asyncio.wait_for(followed.changes.get(), LIMIT)
            followed.path.unlink()
            assert "No such file" in await followed.told("not taken")
            assert followed.service.options.anonymous
            await followed.changed("anonymous = false")

    run(scenario())


def test_an_option_that_needs_a_new_service_is_told_without_its_value(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path / "limpet.toml") as followed:
            options = await followed.changed(f'access_key = "{KEY}"\nrecovery_window = 60\nanonymous = true')
            assert options == dataclasses.replace(ServiceOptions(), anonymous=True)
            told = await followed.told("start the service again")
            assert told.endswith("for a change of access_key, recovery_window")

    run(scenario())


def test_a_package_that_is_missing_is_told_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "limpet.service._event_hubs", raising=False)
    monkeypatch.setitem(sys.modules, "azure.eventhub", None)
    key = "SharedAccessKeyName=name;SharedAccessKey=secret"

    async def scenario() -> None:
        async with following(tmp_path / "limpet.toml") as followed:
            text = f'[[hubs.chat.event_listeners]]\nevent_hub = "e"\nconnection_string = "Endpoint=sb://h;{key}"'
            followed.path.write_text(f"anonymous = true\n{text}", "utf-8")
            told = await followed.told("pip install 'limpet[eventhubs]'")
            assert "secret" not in told
            assert followed.service.options == ServiceOptions()

    run(scenario())
