"""Messages on the wire in the log: whole, but without tokens, on one line, and not by the megabyte."""

from __future__ import annotations

import json as plain_json
import logging

import pytest

from limpet_core.client.log_lines import LogLines
from limpet_core.client.wire_log import log_messages
from limpet_core.protocol import json
from limpet_core.redaction import Secrets


def traced(caplog: pytest.LogCaptureFixture, message: str, direction: str = "<", secrets: Secrets | None = None) -> str:
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="limpet.frames"):
        lines = LogLines()
        log_messages(lines, direction, [message.encode()], secrets or Secrets(), json)
        lines.write()
    (record,) = caplog.records
    return record.getMessage()


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ('{"type":"pong"}', '< {"type":"pong"}'),
        ('{"type": "x", "a": "\\u00e9"}', '< {"type": "x", "a": "\\u00e9"}'),
        ('{"reconnectionToken":"a\\"b","c":["d"]}', '< {"reconnectionToken":"***","c":["d"]}'),
        ('{"reconnection\\u0054oken": "SECRET", "c": 1}', '< {"reconnectionToken":"***","c":1}'),
        ('{"reconnectionToken":["SECRET"]}', '< {"reconnectionToken":"***"}'),
        ('{"a":"SECRET","reconnectionToken":"SECRET"}', '< {"a":"***","reconnectionToken":"***"}'),
        ('["token"]', '< ["token"]'),
        ('{"type":"message","data":"a token"}', '< {"type":"message","data":"a token"}'),
        (
            '{"reconnectionToken":"SECRET',
            "< a message of 28 characters that cannot be read and may hold a token",
        ),
        ('{"\\u0074oken":', "< a message of 14 characters that cannot be read and may hold a token"),
        ("[" * 100_000 + "token", "< a message of 100005 characters that cannot be read and may hold a token"),
        ("no JSON\r\n\x1b", "< no JSON\\r\\n\\u001b"),
    ],
)
def test_a_message_that_came(caplog: pytest.LogCaptureFixture, message: str, line: str) -> None:
    assert traced(caplog, message) == line


def test_what_a_message_told_is_known_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    secrets = Secrets()
    traced(caplog, '{"reconnectionToken":"SECRET"}', secrets=secrets)
    assert traced(caplog, '{"data":"the SECRET of all"}', ">", secrets) == '> {"data":"the *** of all"}'


def test_what_is_sent_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    message = plain_json.dumps({"type": "event", "data": "my token"})
    assert traced(caplog, message, ">") == f"> {message}"


def test_a_long_message_is_shortened(caplog: pytest.LogCaptureFixture) -> None:
    line = traced(caplog, plain_json.dumps({"data": "x" * 100_000}))
    assert len(line) == 1002
    assert line.endswith("x... (100012 characters)")
