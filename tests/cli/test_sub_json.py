"""``limpet sub --json``: one object a line, of messages and of what happens to the connection."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from tests.helpers.command_line import TIMEOUT, joined, limpet, messages, running
from tests.helpers.waiting import until

from limpet import GroupMessage, MessagesMissed, RejoinGroupFailed, SendError
from limpet.cli._reports import event_line
from limpet.testing import BackgroundService


@pytest.fixture(scope="module")
def cut() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    printed: dict[str, Any] = json.loads(process.stdout.readline())
    return printed


def test_an_attempt_that_fails_is_told_once(cut: BackgroundService) -> None:
    with running("sub", "--url", cut.url("alice"), "room") as process:
        assert process.stderr is not None
        said = [process.stderr.readline()]
        assert "connected as" in said[0]
        cut.refuse()
        cut.cut()
        while "attempt 1 failed" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
        cut.accept()
        while "recovered" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
    assert [text.split(" ")[0] for text in said if "cannot connect" not in text] == ["--"] * 3
    assert sum("cannot connect" in text for text in said) == 1


def test_the_life_of_a_connection(cut: BackgroundService) -> None:
    """Dropped and recovered, then dropped for good: each line has its type and its time."""
    begin = time.time()
    with running("sub", "--url", cut.url("alice"), "room", "--json") as process:
        lines = [line(process), line(process)]
        first = lines[0]["connectionId"]
        cut.cut()
        lines += [line(process), line(process)]
        cut.publish("room", ["after the cut"])
        lines.append(line(process))
        cut.drop(first, for_good=True)
        while lines[-1]["type"] != "connected":
            lines.append(line(process))
    kinds = [printed["type"] for printed in lines]
    assert kinds[:5] == ["connected", "joined", "recovering", "recovered", "message"]
    assert kinds[-2:] == ["disconnected", "connected"]
    assert lines[0]["userId"] == "alice"
    assert lines[1]["group"] == "room"
    assert (lines[2]["connectionId"], lines[2]["code"], type(lines[2]["reason"])) == (first, 1006, str)
    assert (lines[4]["data"], lines[4]["dataType"], lines[4]["group"]) == ("after the cut", "json", "room")
    assert lines[4]["sequenceId"] == 1
    assert lines[-1]["connectionId"] != first
    for printed in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", printed["time"])
        assert begin - 1 <= datetime.fromisoformat(printed["time"]).timestamp() <= time.time()


def test_bytes_are_base64_and_say_so(service: dict[str, str]) -> None:
    with running("sub", "--url", service["url"], "room", "--json", "--count", "2") as process:
        joined(process)
        sent = limpet("pub", "--url", service["url"], "room", "--base64", "AP8=")
        assert sent.returncode == 0, sent.stderr
        assert limpet("pub", "--url", service["url"], "room", "text").returncode == 0
        out, told = process.communicate(timeout=TIMEOUT)
    binary, text = messages(out)
    assert (binary["data"], binary["dataType"], binary["encoding"]) == ("AP8=", "binary", "base64")
    assert base64.b64decode(binary["data"]) == b"\x00\xff"
    assert (text["data"], text["fromUserId"], "encoding" in text) == ("text", "alice", False)
    assert told == ""


def test_rare_events() -> None:
    missed = json.loads(event_line(MessagesMissed(3, 5)))
    assert (missed["type"], missed["first"], missed["last"]) == ("missed", 3, 5)
    unread = json.loads(event_line(MessagesMissed(0, 0)))
    assert (unread["first"], unread["last"]) == (None, None)
    failed = json.loads(event_line(RejoinGroupFailed("room", SendError(1, "Forbidden", "no", "rejected"))))
    assert (failed["type"], failed["group"], failed["outcome"]) == ("rejoinFailed", "room", "rejected")
    with pytest.raises(AssertionError, match="not of LIFECYCLE"):
        event_line(GroupMessage(group="room"))


def test_the_end_of_a_stream_is_a_line_of_its_own(service: dict[str, str]) -> None:
    with running("sub", "--url", service["url"], "room", "--json") as process:
        joined(process)
        assert limpet("pub", "--url", service["url"], "--stream", "room", "one").returncode == 0
        fragment, end = line(process), line(process)
    assert (fragment["type"], fragment["streamSequenceId"]) == ("message", 1)
    assert (end["type"], end["streamId"], end["error"]) == ("streamEnded", fragment["streamId"], None)


def test_many_groups_of_which_the_first_is_busy(cut: BackgroundService) -> None:
    """Messages are taken while groups are joined: else a full buffer would hold up the answers to the joins."""
    publishing = [f"message {number}" for number in range(3000)]
    groups = [f"group{number}" for number in range(40)]
    with running("sub", "--url", cut.url("alice", groups=["busy"]), "--json", *groups) as process:
        until(lambda: cut.members("busy"))
        cut.publish("busy", publishing)
        joined(process, len(groups))


@pytest.mark.parametrize("options", [[], ["--json"], ["--streams"], ["--streams", "--json"]])
def test_a_refused_join_is_one_line(service: dict[str, str], options: list[str]) -> None:
    url = limpet("url", "-c", service["connection_string"], "--role", "none").stdout.strip()
    refused = limpet("sub", *options, "--url", url, "room")
    assert refused.returncode == 1
    assert re.fullmatch(r"Error: Forbidden: .*\n", refused.stderr)
    assert all(json.loads(printed)["type"] == "connected" for printed in refused.stdout.splitlines())
