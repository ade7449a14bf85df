"""What the application gives in place of a URL: each mistake is told, with the name of the function."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from limpet import ConnectionFailed, Session, Stopped
from limpet._transports.route import Route


def fresh_url(answer: Any = None) -> Any:
    return answer


async def async_url() -> str:
    return "wss://example.test"


def told(url: Any) -> str:
    """Why a client with that function stops."""
    session = Session(random=lambda: 0.5)
    route = Route(url, None, None)
    session.start(0.0)
    assert session.dial is not None
    route.tell(session, session.dial, route.ask_blocking(), 0.0)
    failed, stopped = session.events()
    assert isinstance(failed, ConnectionFailed)
    assert isinstance(stopped, Stopped)
    assert stopped.error is not None
    assert stopped.error.__cause__ is None
    return str(stopped.error)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            fresh_url,
            "'fresh_url' that was given as url must return a str, the client URL (wss://...), and returned None",
        ),
        (functools.partial(fresh_url, b"wss://x"), "'partial' that was given as url must return a str"),
        (functools.partial(fresh_url, b"wss://x"), "and returned bytes"),
        (functools.partial(fresh_url, {"url": "x"}), "and returned dict"),
        (async_url, "'async_url' that was given as url is async; this client needs a plain function"),
    ],
)
def test_a_function_that_gives_no_url_is_named(url: Any, text: str) -> None:
    assert told(url).startswith("no URL to connect to: the function ")
    assert text in told(url)
