"""The contract's own rules: needs, profiles, leftovers, and the API that it asks of a client."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

import limpet.anyio
import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import GroupMessage, Options
from limpet.testing.contract import (
    ALL,
    CHECKS,
    PROFILES,
    Adapter,
    AsyncClientApi,
    BlockingClientApi,
    Check,
    Need,
    Subject,
    checks,
    needs_of,
    run_check,
)
from limpet.testing.contract import run as running
from limpet.testing.contract.builtin import builtin
from limpet.testing.contract.check import REGISTERED, check
from limpet.testing.contract.harness import Harness

ASYNC: tuple[Callable[[str], AsyncClientApi], ...] = (limpet.asyncio.Client, limpet.trio.Client, limpet.anyio.Client)
BLOCKING: tuple[Callable[[str], BlockingClientApi], ...] = (limpet.sync.Client,)
API: type[AsyncClientApi] = limpet.asyncio.Client  # as the how-to has it
ADAPTERS = {adapter.name: adapter for adapter in builtin()}
each_loop = pytest.mark.parametrize("adapter", [ADAPTERS["asyncio"], ADAPTERS["trio"]], ids=lambda each: each.name)


def test_the_clients_have_every_method_of_the_api() -> None:
    for clients, api in ((ASYNC, AsyncClientApi), (BLOCKING, BlockingClientApi)):
        names = {name for kind in api.__mro__ for name in vars(kind) if not name.startswith("_")}
        assert {"stop", "events", "state", "off"} <= names
        for client in clients:
            assert names <= set(dir(client))


# ---- Needs and profiles


def test_every_need_is_one_of_some_check_and_the_profiles_grow() -> None:
    assert set(get_args(Need)) == ALL == {need for each in CHECKS for need in needs_of(each) or ()}
    sizes = [len(PROFILES[name].checks) for name in ("bare", "browser", "own driver", "connected", "limpet")]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == len(CHECKS)
    assert PROFILES["limpet"].without("streams").checks == tuple(
        each for each in CHECKS if "streams" not in (needs_of(each) or ())
    )


@pytest.mark.parametrize("adapter", [ADAPTERS["asyncio"], ADAPTERS["sync"]], ids=lambda each: each.name)
@pytest.mark.parametrize(
    "need", ["streams", "write streams", "callbacks", "restart", "cancel", "url function", "pause", "size limit"]
)
def test_a_check_that_uses_more_than_it_says_fails(adapter: Adapter, need: Need) -> None:
    async def greedy(harness: Harness) -> None:
        options: dict[str, Any] = {"pause": {"max_buffered_messages": 9}, "size limit": {"max_message_size": 9999}}
        url: Any = harness.service.url if need == "url function" else None
        async with harness.client(url, **options.get(need, {})) as client:
            if need == "streams":
                client.events(GroupMessage).close()
            elif need == "write streams":
                await (await client.open_stream()).end()
            elif need == "callbacks":
                client.on(GroupMessage, print)
                client.off(GroupMessage, print)
            elif need == "cancel":
                assert not await client.gives_up(30.0, "join_group", "g")
        if need == "restart":
            async with client:
                pass

    try:
        check()(greedy)
        with pytest.raises(AssertionError, match=f"uses '{need}' and does not say so"):
            run_check(greedy, adapter)
        check(needs=(need,))(greedy)
        run_check(greedy, adapter)
    finally:
        del REGISTERED[greedy]


class Bare:
    """A client that has nothing but what no need is for."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if name in ("events", "subscribe", "off", "check", "open_stream"):
            raise AttributeError(name)
        return getattr(self._client, name)

    async def __aenter__(self) -> object:
        return await self._client.__aenter__()

    async def __aexit__(self, *reason: Any) -> None:
        await self._client.__aexit__(*reason)

    def on(self, event_type: type[Any], callback: Callable[[Any], object]) -> None:
        assert not inspect.iscoroutinefunction(callback)
        self._client.on(event_type, callback)


def bare(url: Any, options: Options, ssl: Any = None) -> Bare:
    assert not callable(url)
    return Bare(limpet.asyncio.Client(url, options))


@pytest.mark.parametrize("each", PROFILES["bare"].checks, ids=lambda each: each.__name__)
def test_a_bare_client_passes_what_fits_it(each: Check) -> None:
    run_check(each, Adapter("bare", bare))


# ---- Leftovers


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LEFT_BEHIND", 0.2)


async def forgotten_task() -> None:
    await anyio.sleep(3600)


@pytest.mark.usefixtures("hurried")
def test_a_task_that_is_left_behind_is_named() -> None:
    tasks: list[object] = []

    async def careless(_: Harness) -> None:
        tasks.append(asyncio.get_running_loop().create_task(forgotten_task()))

    with pytest.raises(AssertionError, match=r"left behind: .*forgotten_task"):
        run_check(careless, ADAPTERS["asyncio"])


@pytest.mark.usefixtures("hurried")
def test_a_task_of_trio_that_is_left_behind_is_named() -> None:
    import trio

    async def careless(_: Harness) -> None:
        trio.lowlevel.spawn_system_task(forgotten_task)

    with pytest.raises(AssertionError, match=r"left behind: .*task .*forgotten_task in forgotten_task, line"):
        run_check(careless, ADAPTERS["trio"])


@pytest.mark.usefixtures("hurried")
@each_loop
def test_a_thread_that_is_left_behind_is_named_by_whomever_it_was_begun(adapter: Adapter) -> None:
    over = threading.Event()

    def wait_for_the_end() -> None:
        over.wait()

    async def careless(_: Harness) -> None:
        threading.Thread(target=wait_for_the_end, name="somebody-elses").start()

    try:
        with pytest.raises(AssertionError, match=r"threads left behind: thread somebody-elses in .*wait_for_the_end"):
            run_check(careless, adapter)
    finally:
        over.set()


@pytest.mark.usefixtures("hurried")
@each_loop
def test_a_socket_that_is_left_open_is_named(adapter: Adapter) -> None:
    left: list[socket.socket] = []

    async def careless(_: Harness) -> None:
        left.append(socket.socket())
        left[0].bind(("127.0.0.1", 0))

    try:
        with pytest.raises(AssertionError, match="sockets left behind: socket") as caught:
            run_check(careless, adapter)
        assert str(left[0].getsockname()[1]) in str(caught.value)
    finally:
        left[0].close()


# ---- No check depends on who is first


class Dawdling(Subject):
    """A client on a busy machine: what is sent takes its time to be asked for."""

    async def send(self, data: Any, group: str = "g", **named: Any) -> Any:
        await anyio.sleep(0.004 if named.get("ack") is False else 0.5)
        return await super().send(data, group, **named)


@pytest.mark.parametrize(
    "name",
    [
        "a_slow_consumer_that_sends_without_ack_over_a_dead_line_is_told",
        "stop_while_it_recovers_is_prompt_and_settles",
        "stop_while_it_waits_for_the_next_attempt_is_prompt_and_settles",
        "a_limit_of_attempts_ends_it",
    ],
)
def test_a_client_that_sends_late_passes_all_the_same(name: str) -> None:
    (late,) = (each for each in CHECKS if each.__name__ == name)
    run_check(late, dataclasses.replace(ADAPTERS["asyncio"], subject=Dawdling))


# ---- What a check may look at


def test_no_check_asks_for_the_text_of_an_error_or_for_what_no_subject_translates() -> None:
    for path in sorted(Path(checks.__file__).parent.glob("[a-z]*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.name}, line {number}: {line.strip()}"
            # That a secret is not in it is no matter of words.
            assert not re.search(r"(?<!not) in str\(|(?<!not) in [\w.]*\.(message|reason)\b|match=", line) or (
                '"enough" in' in line  # what the service was told to say
            ), where
            assert ".client." not in line.replace("limpet.client.", ""), where
