"""Over real sockets: what clients and application servers of a cluster get where its logic fails by a fault of ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.adapters.service.sockets import ROLES, refusal
from tests.helpers.nodes import Nodes, Rest, eventually, joined, open_client

from limpet.service import Service


def fail(*_: Any, **__: Any) -> None:
    """Fail, in place of a step of the logic."""
    raise RuntimeError("a fault")


def broken(monkeypatch: pytest.MonkeyPatch, step: str, *nodes: Service) -> None:
    for node in nodes:
        monkeypatch.setattr(node._gateway.replica.core, step, fail)


def counts(*nodes: Service) -> list[int]:
    return [node._gateway.replica.shared.failures for node in nodes]


def test_a_message_that_fails_closes_its_client_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            ann, _ = await open_client(a)
            bob, _ = await open_client(b, "bob")
            with monkeypatch.context() as patch:
                broken(patch, "receive", a, b)
                await ann.send(type="sendToGroup", group="g", data=1, ackId=1)
                assert await ann.close_code() == 1011
                await eventually(lambda: counts(a, b) == [1, 1])
            await joined(bob)
            await bob.leave()

    asyncio.run(scenario())


def test_an_operation_that_fails_is_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            ann, _ = await open_client(b)
            broken(monkeypatch, "send_to_all", a, b)
            answer = await Rest(a)("POST", "/:send", json=1)
            assert (answer.status_code, answer.json()["code"]) == (500, "Error.InternalServerError")
            await eventually(lambda: counts(a, b) == [1, 1])
            await joined(ann)
            await ann.leave()

    asyncio.run(scenario())


def test_a_connection_that_cannot_be_opened_is_refused_with_500(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            with monkeypatch.context() as patch:
                broken(patch, "open", a, b)
                status, text = await refusal(a.client_url(roles=ROLES))
            assert (status, "failed to open the connection" in text) == (500, True)
            ann, _ = await open_client(a)
            await joined(ann)
            await ann.leave()

    asyncio.run(scenario())
