"""Peers that do harm during a handshake, or keep still: attempts end in time, and leave nothing behind."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress

import anyio
import anyio.lowlevel

from limpet import ClientStopped, ConnectError, State
from limpet.testing.contract.check import check
from limpet.testing.contract.checks._hostile import Harm, Hostile
from limpet.testing.contract.harness import Harness, logged, prompt, raises, soon
from limpet.testing.contract.subject import Subject


@check("transport", "tls")
async def a_hostile_peer_costs_one_error_and_nothing_stays_open(harness: Harness) -> None:
    """All kinds of harm at the same time: most of it is waiting for the end of ``connect_timeout``."""
    before = set(threading.enumerate())
    with logged(but="limpet") as noise, ExitStack() as stack:
        peers = {harm: stack.enter_context(Hostile(harm, harness.service_tls)) for harm in Harm}

        async def suffer(harm: Harm, peer: Hostile) -> None:
            client = harness.client(peer.url(), connect_timeout=1.0)
            with prompt(), raises(ConnectError) as caught:
                async with client:
                    raise AssertionError(f"it cannot have started: the peer {harm.value}")
            assert client.state is State.STOPPED
            assert "SECRET" not in str(caught.error)

        async with anyio.create_task_group() as clients:
            for harm, peer in peers.items():
                clients.start_soon(suffer, harm, peer)
        for harm, peer in peers.items():
            await soon(lambda peer=peer: peer.connected, f"a connection to a peer that {harm.value}")  # type: ignore[misc]
            await _nothing_left(harm, peer, before)
    assert not noise, noise


@check("transport", "tls")
async def a_peer_with_the_wrong_name_is_told_and_left(harness: Harness) -> None:
    before = set(threading.enumerate())
    if harness.service_tls is None:
        return
    with logged(but="limpet") as noise, Hostile(Harm.STILL_BEHIND_TLS, harness.service_tls) as peer:
        client = harness.client(peer.url("localhost"), connect_timeout=5.0)
        with prompt(4.0), raises(ConnectError):
            async with client:
                raise AssertionError("it cannot have started")
        await _nothing_left(Harm.STILL_BEHIND_TLS, peer, before)
    assert not noise, noise


@check("transport", "tls")
async def a_client_that_is_stopped_amid_a_handshake_leaves_nothing_open(harness: Harness) -> None:
    for harm in (Harm.STILL, Harm.GARBAGE, Harm.STILL_BEHIND_TLS, Harm.HALF_AN_ANSWER, Harm.REFUSES):
        before = set(threading.enumerate())
        with logged(but="limpet") as noise, Hostile(harm, harness.service_tls) as peer:
            client = harness.client(peer.url())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_start, client)
                await soon(lambda: peer.connected, "a connection")
                await anyio.sleep(0.05)
                with prompt():
                    await client.stop()
            await _nothing_left(harm, peer, before)
        assert not noise, (harm, noise)


@check("transport", "tls")
async def a_client_that_is_stopped_at_any_turn_of_a_handshake_leaves_nothing_open(harness: Harness) -> None:
    before = set(threading.enumerate())
    with logged(but="limpet") as noise, Hostile(Harm.HALF_AN_ANSWER, harness.service_tls) as peer:

        async def stop_after(turns: int) -> None:
            # A start for which the stop comes too early ends by the time-out.
            client = harness.client(peer.url(), connect_timeout=1.0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_start, client)
                for _ in range(1 + turns):
                    await anyio.lowlevel.checkpoint()
                await client.stop()

        async with anyio.create_task_group() as clients:
            for turns in range(40):
                clients.start_soon(stop_after, turns)
        await _nothing_left(Harm.HALF_AN_ANSWER, peer, before)
    assert not noise, noise


async def _start(client: Subject) -> None:
    with suppress(ConnectError, ClientStopped):
        async with client:
            raise AssertionError("it cannot have started")


async def _nothing_left(harm: Harm, peer: Hostile, before: set[threading.Thread]) -> None:
    await soon(lambda: not peer.open, f"the end of a connection to a peer that {harm.value}", 5.0)

    def threads() -> list[threading.Thread]:
        return [one for one in set(threading.enumerate()) - before if not one.name.startswith(_OTHERS)]

    await soon(lambda: not threads(), f"the end of {threads()}, of a connection to a peer that {harm.value}", 5.0)


_OTHERS = ("hostile", "AnyIO", "asyncio", "Trio")
"""Threads of the check and of event loops."""
