"""``limpet pub``: what is sent as what, how fast, and what is waited for."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers import forked
from tests.helpers.command_line import TIMEOUT, environment_without_limpet, limpet
from tests.helpers.waiting import until

from limpet import GroupMessage
from limpet.sync import Client
from limpet.testing import BackgroundService


@pytest.fixture(scope="module")
def background() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


@contextlib.contextmanager
def heard(service: BackgroundService) -> Iterator[list[GroupMessage]]:
    """The messages of a group, as they come."""
    found: list[GroupMessage] = []
    with Client(service.direct_url()) as client:
        client.on(GroupMessage, found.append)
        client.join_group("room")
        yield found


def test_what_is_sent_as_what(background: BackgroundService, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b'{"a": 1}\n')
    other = tmp_path / "other"
    other.write_bytes(b"\xff\x00\r\n")
    cases: list[tuple[list[str], str, list[object]]] = [
        (["--binary", "é"], "", ["é".encode()]),
        (["--base64", "AP8=", "AA =="], "", [b"\x00\xff", b"\x00"]),
        (["--binary"], "one\ntwo\r\n", [b"one", b"two"]),
        (["--file", str(file)], "", ['{"a": 1}\n']),
        (["--file", str(file), "--json"], "", [{"a": 1}]),
        (["--file", str(other), "--binary", "--file", str(file)], "", [b"\xff\x00\r\n", b'{"a": 1}\n']),
        (["--file", "-"], "one\ntwo\n", ["one\ntwo\n"]),
        (["--no-ack", "x", "y"], "", ["x", "y"]),
        (["--rate", "1000", "--json"], "1\n2\n3\n", [1, 2, 3]),
    ]
    with heard(background) as found:
        for arguments, stdin, expected in cases:
            sent = limpet("pub", "--url", background.direct_url(), "room", *arguments, stdin=stdin)
            assert sent.returncode == 0, (arguments, sent.stderr)
            acknowledged = "" if "--no-ack" in arguments else " and acknowledged"
            assert f"{len(expected)} message{'s' if len(expected) > 1 else ''} sent{acknowledged}\n" in sent.stderr
            until(lambda: len(found) >= len(expected))  # noqa: B023
            assert [message.data for message in found] == expected, arguments
            found.clear()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--base64", "x"], "DATA is not base64"),
        (["--file", "no such file"], "'no such file' does not exist"),
        (["--file", "OTHER"], "DATA is no text in UTF-8"),
        (["--file", "OTHER", "--json"], "DATA is not JSON"),
        (["--file", "OTHER", "x"], "give DATA or --file, not both"),
        (["--rate", "0", "x"], "0.0 is not in the range x>0"),
        (["--rate", "nan", "x"], "nan is no number"),
        (["--stream", "--no-ack", "x"], "--stream goes with none of"),
    ],
)
def test_what_cannot_be_sent(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    """It is told before there is any connection: nothing listens at that URL."""
    other = tmp_path / "other"
    other.write_bytes(b"\xff\x00\r\n")
    arguments = [argument.replace("OTHER", str(other)) for argument in arguments]
    refused = limpet("pub", "--url", "ws://127.0.0.1:1/client/hubs/chat", "room", *arguments)
    assert refused.returncode in (1, 2)
    assert complaint in refused.stderr.splitlines()[-1]


def test_a_line_that_is_no_text_ends_it(background: BackgroundService) -> None:
    with heard(background) as found:
        done = forked.run(
            [sys.executable, "-m", "limpet", "pub", "--url", background.direct_url(), "room"],
            input=b"one\n\xff\ntwo\n",
            timeout=TIMEOUT,
            env=environment_without_limpet(),
        )
        assert done.returncode == 1
        assert b"DATA is no text in UTF-8" in done.stderr
        until(lambda: found)
        assert [message.data for message in found] == ["one"]


def test_a_rate_is_kept_and_is_no_wait_for_each_answer(background: BackgroundService) -> None:
    """Twenty messages at ten a second take 1.9 s at least, whatever the machine."""
    lines = "".join(f"{number}\n" for number in range(20))
    with heard(background) as found:
        begin = time.monotonic()
        sent = limpet("pub", "--url", background.direct_url(), "room", "--rate", "10", stdin=lines)
        assert sent.returncode == 0, sent.stderr
        assert time.monotonic() - begin >= 1.9 - 0.1  # what it may catch up
        until(lambda: len(found) == 20)
        assert [message.data for message in found] == [str(number) for number in range(20)]


def test_a_refusal_ends_what_is_sent_at_a_rate(background: BackgroundService) -> None:
    url = background.direct_url(roles=())
    refused = limpet("pub", "--url", url, "room", "--rate", "100", stdin="one\ntwo\nthree\n")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert "Forbidden" in refused.stderr


def test_the_reply_of_an_invocation_goes_to_a_file(background: BackgroundService, tmp_path: Path) -> None:
    background.answer("bytes", lambda call: b"\x00\xff" + call.data)
    path = tmp_path / "reply"
    url = background.direct_url()
    done = limpet("invoke", "--url", url, "bytes", "--base64", "AQ==", "--output", str(path))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert path.read_bytes() == b"\x00\xff\x01"
    shown = limpet("invoke", "--url", url, "bytes", "--base64", "AQ==")
    assert shown.stdout == "base64:AP8B\n"
    lost = limpet("invoke", "--url", url, "bytes", "--base64", "AQ==", "-o", str(tmp_path / "no folder" / "x"))
    assert (lost.returncode, lost.stderr) == (1, "Error: No such file or directory\n")
