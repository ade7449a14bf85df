"""What who runs a program sees of its client: the log of an outage, failed attempts, counters and gauges."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from limpet import (
    Backoff,
    Connected,
    ConnectError,
    ConnectionFailed,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    Recovered,
    Recovering,
    Stats,
    Stopped,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, raises, soon
from limpet.testing.contract.subject import GROUP
from limpet_core.service import group_publication

_LIFE = (Connected, Recovering, ConnectionFailed, Recovered, Disconnected, Stopped)
_COUNTERS = (
    "messages_in", "bytes_in", "messages_out", "bytes_out", "recoveries", "reconnects", "failed_attempts", "missed",
    "dropped",
)  # fmt: skip


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))


@contextmanager
def _lines(level: int) -> Generator[list[tuple[str, str]]]:
    """Collect the lines of the client's log, each with its level."""
    logger, handler = logging.getLogger("limpet"), _Lines()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


# ---- The log


@check("transport", needs=("log",))
async def the_log_tells_of_an_outage_its_first_failure_and_its_end(harness: Harness) -> None:
    with _lines(logging.INFO) as lines:
        async with harness.client() as client:
            life = Log(client, *_LIFE)
            await client.join()
            first = client.connection_id
            assert first
            assert lines == [("INFO", lines[0][1])]
            assert lines[0][1].startswith(f"connected: {first}, after ")
            lines.clear()
            for number in range(50):
                await client.send(number)
            assert not lines, "nothing is logged for each message"
            harness.service.refuse()
            harness.service.cut()
            await life.wait(ConnectionFailed, 3)
            harness.service.accept()
            recovered = await life.wait(Recovered)
            assert [level for level, _ in lines] == ["INFO", "WARNING", "INFO"]
            texts = [text for _, text in lines]
            assert texts[0].startswith(f"recovering {first}: ")
            assert texts[1].startswith("attempt 1 failed: ")
            assert "; the next attempt is " in texts[1]
            assert texts[2].startswith(f"recovered {recovered.connection_id} after ")
            failed = life.of(ConnectionFailed)
            assert texts[2].endswith(f"at attempt {len(failed) + 1}")
            lines.clear()
            harness.service.end(first, "enough")
            await soon(lambda: client.connection_id not in (None, first))
            await soon(lambda: len(lines) == 2)
            assert lines[0] == ("WARNING", lines[0][1])
            assert "enough" in lines[0][1]
            assert lines[1][1].startswith(f"reconnected: {client.connection_id} replaces {first}, after ")


# ---- Failed attempts


@check("transport", needs=("stats",))
async def each_failed_attempt_is_told_with_its_number_and_the_time_of_the_next(harness: Harness) -> None:
    """In the order Recovering, failures to recover, Disconnected, failures to reconnect, Connected."""
    async with harness.client(recovery_timeout=0.3) as client:
        life = Log(client, *_LIFE)
        harness.service.refuse()
        harness.service.cut()
        await life.wait(Disconnected)
        told = len(life.of(ConnectionFailed))
        await life.wait(ConnectionFailed, told + 2)
        harness.service.accept()
        await life.wait(Connected)
        names = [type(event).__name__ for event in life.events]
        lost = names.index("Disconnected")
        assert (names[0], names[-1]) == ("Recovering", "Connected")
        assert set(names[1:lost]) == set(names[lost + 1 : -1]) == {"ConnectionFailed"}
        failed = life.of(ConnectionFailed)
        assert [event.attempt for event in failed] == list(range(1, len(failed) + 1))
        assert all(type(event.error) is ConnectError for event in failed)
        assert all(event.next_in is not None and event.next_in >= 0 for event in failed)
        assert client.stats.failed_attempts == len(failed)


@check("transport")
async def of_the_last_attempt_it_is_told_that_none_follows(harness: Harness) -> None:
    harness.service.refuse()
    client = harness.client(first_connection=Backoff(initial=0.01, limit=2))
    life = Log(client, *_LIFE)
    with raises(ConnectError):
        await client.enter()
    await life.wait(Stopped)
    *failed, stopped = life.events
    assert [(event.attempt, event.next_in is None) for event in failed] == [(1, False), (2, True)]
    assert stopped.error is not None


# ---- Counters and gauges


@check("transport", needs=("stats", "restart"))
async def stats_count_what_was_told_and_go_on_over_a_restart(harness: Harness) -> None:
    client = harness.client()
    life, messages = Log(client, *_LIFE, MessagesMissed), Log(client, GroupMessage)
    assert client.stats == Stats()
    snapshots: list[Stats] = []
    too_old = group_publication(GROUP, None, "json", b"2", expires=0.0)
    for run in (1, 2):
        began = time.time()
        async with client:
            since = client.stats.connected_since
            assert since is not None
            assert began - 5 < since < time.time() + 5
            await client.join()
            for number in range(10):
                await client.send([run, number])
            failed = len(life.of(ConnectionFailed))
            harness.service.refuse()
            harness.service.cut()
            await life.wait(ConnectionFailed, failed + 1)
            harness.service.call(lambda service, _: service.core.send_to_group("chat", GROUP, too_old))
            harness.service.publish(GROUP, [[run, "last"]])
            harness.service.accept()
            await messages.upto([run, "last"])
            assert client.stats.connected_since == since, "a recovered connection is the same"
            first = client.connection_id
            assert first
            harness.service.end(first)
            await life.wait(Connected, 2 * run)
            assert client.stats.last_error
        await life.wait(Stopped, run)
        snapshots.append(client.stats)
    for run, stats in enumerate(snapshots, 1):
        assert (stats.messages_in, stats.recoveries, stats.reconnects, stats.missed) == (11 * run, run, run, run)
        assert stats.messages_out >= 11 * run
        assert stats.bytes_in > stats.messages_in
        assert stats.bytes_out > stats.messages_out
        assert (stats.requests_pending, stats.requests_unsent, stats.acks_outstanding, stats.dropped) == (0, 0, 0, 0)
        assert stats.connected_since is None
    one, two = snapshots
    assert two.failed_attempts == len(life.of(ConnectionFailed)) > one.failed_attempts > 0
    assert all(getattr(one, name) <= getattr(two, name) for name in _COUNTERS)


@check("transport", needs=("stats", "pause"))
async def stats_show_what_waits(harness: Harness) -> None:
    async with harness.client(max_buffered_messages=20) as client, anyio.create_task_group() as tasks:
        await client.join()
        harness.service.stall("to_client")
        for number in range(3):
            tasks.start_soon(client.send, number)
        await soon(lambda: client.stats.acks_outstanding == 3)
        assert (client.stats.requests_pending, client.stats.requests_unsent) == (3, 0)
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.stats.failed_attempts > 0)
        for number in range(3, 5):
            tasks.start_soon(client.send, number)
        await soon(lambda: client.stats.requests_unsent == 2)
        assert (client.stats.requests_pending, client.stats.acks_outstanding) == (5, 0)
        harness.service.heal()
        await soon(lambda: client.stats.requests_pending == 0)
        await soon(lambda: client.stats.buffered == 5, "the messages that nobody reads")
        harness.service.publish(GROUP, range(5, 30))
        await soon(lambda: client.stats.messages_in == 30)
        await soon(lambda: client.stats.buffered + client.stats.dropped == 30)
        assert client.stats.dropped == 30 - 19
