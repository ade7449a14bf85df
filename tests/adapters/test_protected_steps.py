"""On trio, Ctrl-C waits for the end of a client's step: no step of the session or the client is half done."""

from __future__ import annotations

import inspect
import signal
import sys
from typing import Any

import anyio
import pytest
from tests.adapters.harness import GROUP, options
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.trio
from limpet import InvocationError, SendError, Session
from limpet._clients.async_answers import AsyncAnswers
from limpet._clients.async_client import AsyncClient
from limpet._clients.async_requests import AsyncRequests
from limpet._clients.incoming import IncomingStream
from limpet._clients.outgoing import OutgoingStream
from limpet._structured import interrupts
from limpet._structured.submitted import Submitted
from limpet.testing import BackgroundService

KINDS: dict[str, tuple[Any, str]] = {
    "trio": (limpet.trio.Client, "trio"),
    "anyio-trio": (limpet.anyio.Client, "trio"),
}

INNER = {
    # Protected by the functions that call them
    (AsyncAnswers, "_answer"),
    (AsyncAnswers, "_send"),
    (AsyncAnswers, "_invoke"),
    (OutgoingStream, "_over"),
    (OutgoingStream, "_news"),
}


def test_each_coroutine_of_the_clients_is_protected() -> None:
    listed = {(owner, name) for owner, names in interrupts._STEPS for name in names.split()}
    coroutines = {
        (owner, name)
        for owner in (AsyncClient, AsyncRequests, AsyncAnswers, Submitted, OutgoingStream, IncomingStream)
        for name, member in vars(owner).items()
        if inspect.iscoroutinefunction(member)
    }
    assert coroutines - listed == INNER


async def _invoke(client: Any) -> None:
    with pytest.raises(InvocationError, match="NotFound"):
        await client.invoke("order", "x")


async def _write(client: Any) -> None:
    async with client.open_stream(GROUP) as stream:
        await stream.write("x")
        await stream.flush()
    async with client.open_stream(GROUP) as stream:
        await stream.abort("enough")


async def _submit(client: Any) -> None:
    await client.submit.send_to_group(GROUP, "x")


async def _submit_event(client: Any) -> None:
    with pytest.raises(SendError, match="NotFound"):
        await client.submit.send_event("order", "x")


async def _cancel(client: Any) -> None:
    client.submit.send_to_group(GROUP, "x").cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C goes to every process of it")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("use", "step"),
    [
        (_invoke, "invoke"),
        (_submit, "send_to_group"),
        (_submit_event, "send_event"),
        (_cancel, "withdraw"),
        (_write, "open_stream"),
        (_write, "write_stream"),
        (_write, "end_stream"),
        (_write, "abort_stream"),
    ],
)
def test_ctrl_c_amid_a_step_is_raised_behind_it(
    kind: str, use: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_type, backend = KINDS[kind]
    original, done = getattr(Session, step), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        if not done:
            signal.raise_signal(signal.SIGINT)
        done.append(step)
        return original(*arguments, **named)

    monkeypatch.setattr(Session, step, interrupted)

    async def main(url: str) -> None:
        with anyio.fail_after(LIMIT):
            async with client_type(url, options()) as client:
                try:
                    await use(client)
                finally:
                    assert done, "the step was interrupted"

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with BackgroundService() as service, pytest.raises(BaseException) as caught:  # noqa: PT011 - see below
            anyio.run(main, service.url(), backend=backend)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert _is_interrupt(caught.value), caught.value


def _is_interrupt(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_interrupt, error.exceptions))
    return isinstance(error, KeyboardInterrupt)
