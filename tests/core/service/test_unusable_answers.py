"""Answers of event handlers that fail the event: they change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.service.backend import Backend, event, header, talking

INVOKE = {"type": "invoke", "target": "event", "event": "order", "dataType": "text", "data": "x"}
SETS = [("ce-connectionState", "new"), ("Set-Cookie", "c=new")]


def remembered(backend: Backend) -> tuple[str | None, str | None]:
    (call,) = backend.calls()
    return header(call, "ce-connectionState"), header(call, "Cookie")


@pytest.mark.parametrize("asked", [event(ackId=2), {**INVOKE, "invocationId": "i"}], ids=["event", "invocation"])
@pytest.mark.parametrize(
    "answer",
    [
        {"body": b"<p>", "content_type": "text/html"},
        {"body": b"x", "content_type": "text/plain; charset=nonsense"},
        {"body": b"1", "content_type": "application/json, text/plain"},
        {"body": b"1", "content_type": "text/plain; charset=utf-8, application/json"},
        {"body": b"\xff", "content_type": "text/plain"},
        {"body": b"{", "content_type": "application/json"},
        {"body": b"x", "headers": [("Content-Encoding", "gzip")]},
        {"body": b"x", "headers": [("X-WebPubSub-Metadata-a", "v" * 1025)]},
        {"status": 400},
        {"status": 503},
    ],
    ids=[
        "content type",
        "charset",
        "list",
        "list with charset",
        "text",
        "json",
        "encoding",
        "metadata",
        "status 4xx",
        "status 5xx",
    ],
)
def test_an_answer_that_fails_the_event_sets_no_state_and_no_cookies(
    asked: dict[str, Any], answer: dict[str, Any]
) -> None:
    service, backend, client = talking()
    client.send(event())
    backend.answer(headers=[("ce-connectionState", "old"), ("Set-Cookie", "c=old")])
    client.send(asked)
    for _ in range(4):  # a 503 is tried again
        if backend.idle():
            service.advance(10.0)
        if not backend.idle():
            backend.answer(**{**answer, "headers": [*answer.get("headers", []), *SETS]})
    (told,) = client.received()
    assert told["success"] is False
    client.send(event())
    assert remembered(backend) == ("old", "c=old")
    backend.answer(headers=SETS)
    client.send(event())
    assert remembered(backend) == ("new", "c=new")
