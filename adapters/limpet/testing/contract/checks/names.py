"""Hosts with names: addresses that do not answer, and look-ups that hang."""

from __future__ import annotations

from contextlib import suppress

import anyio

from limpet import ClientStopped, ConnectError, State, parse_url
from limpet.service import client_url
from limpet.testing._verbs import ROLES
from limpet.testing.contract.check import check
from limpet.testing.contract.checks._names import name, name_that_fails, name_that_hangs, silent
from limpet.testing.contract.harness import Harness, logged, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Subject

_NAME = "service.test"


@check("transport", needs=("addresses",))
async def silent_addresses_of_a_name_cost_a_fraction_of_a_second_each(harness: Harness) -> None:
    """RFC 8305: the next address is tried 250 ms later, while the ones before go on. A recovery does the same."""
    port, url = _named(harness)
    with silent(4, port) as addresses, name(_NAME, *addresses, ("127.0.0.1", port)):
        client = harness.client(url, connect_timeout=40.0)
        with prompt():
            await client.__aenter__()
        try:
            await client.join()
            first = client.connection_id
            with prompt():
                harness.service.cut()
                await client.send("x")
            assert client.connection_id == first
        finally:
            await client.__aexit__(None, None, None)


@check("transport", needs=("addresses",))
async def addresses_that_refuse_give_their_turn_to_the_next_at_once(harness: Harness) -> None:
    port, url = _named(harness)
    refusing = [(f"127.0.0.{number}", port) for number in range(2, 52)]
    with name(_NAME, *refusing, ("127.0.0.1", port)), prompt():
        async with harness.client(url, connect_timeout=40.0) as client:
            await client.join()
            await soon(lambda: client.connection_id in harness.service.members(GROUP))


@check("transport", needs=("addresses",))
async def where_no_address_of_a_name_answers_the_start_fails(harness: Harness) -> None:
    with name(_NAME, ("127.0.0.2", 9), ("127.0.0.3", 9)), prompt(), raises(ConnectError):
        async with harness.client(f"ws://{_NAME}:9/client/hubs/chat"):
            raise AssertionError("it cannot have started")


@check("transport", needs=("addresses",))
async def a_look_up_that_fails_in_its_own_way_is_a_failure_like_others(harness: Harness) -> None:
    """Guards of tests and sandboxes raise exceptions of their own from the functions of sockets."""
    with logged(but="limpet") as noise, name_that_fails(_NAME, RuntimeError("no names in here")):
        client = harness.client(f"ws://{_NAME}:9/client/hubs/chat", connect_timeout=60.0)
        with prompt(), raises(ConnectError):
            async with client:
                raise AssertionError("it cannot have started")
    assert not noise, noise


@check("transport", needs=("addresses",))
async def stop_does_not_wait_for_silent_addresses(harness: Harness) -> None:
    port, url = _named(harness)
    with silent(4, port) as addresses, name(_NAME, *addresses):
        client = harness.client(url, connect_timeout=60.0, close_timeout=30.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_start_in_vain, client)
            await soon(lambda: client.state is State.CONNECTING)
            await anyio.sleep(0.6)  # some addresses are being tried by now
            with prompt():
                await client.stop()
            assert client.state is State.STOPPED


@check("transport", needs=("addresses",))
async def a_look_up_that_hangs_is_given_up_in_time_and_holds_up_no_stop(harness: Harness) -> None:
    _, url = _named(harness)
    with name_that_hangs(_NAME) as begun:
        with prompt(), raises(ConnectError):
            async with harness.client(url, connect_timeout=0.2):
                raise AssertionError("it cannot have started")
        begun.clear()
        client = harness.client(url, connect_timeout=60.0, close_timeout=30.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_start_in_vain, client)
            await soon(lambda: client.state is State.CONNECTING)
            with prompt():
                await client.stop()
            assert client.state is State.STOPPED
    async with harness.client() as client:
        await client.join()


def _named(harness: Harness) -> tuple[int, str]:
    """Return the port of the service, and a URL for it with the name in place of the address."""
    url = client_url(harness.service.connection_string.replace("127.0.0.1", _NAME), "chat", user_id="ann", roles=ROLES)
    return parse_url(url).port, url


async def _start_in_vain(client: Subject) -> None:
    with suppress(ClientStopped):
        async with client:
            raise AssertionError("it cannot have started")
