"""Tests of a small application: over sockets that break, and over a day in virtual time.

``pytest -p limpet.testing.plugin examples/test_chat.py``; usually the plugin is named in ``conftest.py``.
"""

import asyncio

import pytest

from limpet import Disconnected, GroupMessage, Options, Recovering, SendError
from limpet.asyncio import Client
from limpet.testing import trace


class Chat:
    """The application: it keeps the lines of a room, and notices when it may have missed some."""

    def __init__(self, client, room="room"):
        self.client, self.room = client, room
        self.lines, self.complete = [], True
        client.on(GroupMessage, lambda message: self.lines.append(message.data))
        client.on(Disconnected, self._lost)

    def _lost(self, event):
        self.complete = False

    async def say(self, text):
        """Publish a line. Return True when the service has it, False when the outcome is unknown."""
        try:
            await self.client.send_to_group(self.room, text)
        except SendError as error:
            if error.outcome != "unknown":
                raise
            return False
        return True


# ---- Over sockets, with a network that breaks


@pytest.mark.parametrize("reset", [True, False])
def test_what_was_said_during_a_cut_is_there(limpet_service, reset):
    async def scenario():
        async with Client(limpet_service.url("ann", groups=["room"])) as client:
            chat, last = Chat(client), asyncio.Event()
            client.on(GroupMessage, lambda message: last.set() if message.data == "end" else None)
            for number in range(3):
                limpet_service.publish("room", [number])
                limpet_service.cut(reset=reset)
            limpet_service.publish("room", ["end"])
            await asyncio.wait_for(last.wait(), 10)
            assert chat.lines == [0, 1, 2, "end"]
            assert chat.complete

    asyncio.run(scenario())


def test_a_lost_answer_does_not_say_it_twice(limpet_service):
    async def scenario():
        async with Client(limpet_service.url("ann")) as client:
            limpet_service.lose_ack()
            assert await Chat(client).say("hello")
        said = limpet_service.log.of(trace.Published)
        assert [event.data for event in said] == ['"hello"']

    asyncio.run(scenario())


def test_the_application_notices_that_it_missed_something(limpet_service):
    async def scenario():
        async with Client(limpet_service.url("ann")) as client:
            chat = Chat(client)
            lost = asyncio.Event()
            client.on(Disconnected, lambda event: lost.set())
            limpet_service.drop(client.connection_id, for_good=True)
            await asyncio.wait_for(lost.wait(), 10)
            assert not chat.complete

    asyncio.run(scenario())


# ---- In memory, under a virtual clock


def test_nobody_hangs_for_ever_behind_a_black_hole(limpet_virtual):
    async def scenario():
        options = Options(ack_timeout=10.0)
        async with Client(limpet_virtual.url("ann"), options, connect=limpet_virtual.connect) as client:
            limpet_virtual.stall("to_client")
            clock = asyncio.get_running_loop().time
            begun = clock()
            assert not await Chat(client).say("anybody there?")
            assert clock() - begun < 60
            limpet_virtual.resume()

    limpet_virtual.run(scenario())


def test_a_day_with_a_cut_every_hour(limpet_virtual):
    async def scenario():
        url = limpet_virtual.url("ann", groups=["room"])
        async with Client(url, connect=limpet_virtual.connect) as client:
            chat, cuts = Chat(client), []
            client.on(Recovering, cuts.append)
            for hour in range(24):
                await asyncio.sleep(3600)
                limpet_virtual.publish("room", [hour])
                limpet_virtual.cut()
            await asyncio.sleep(60)
            assert chat.lines == list(range(24))
            assert chat.complete
            assert len(cuts) == 24

    limpet_virtual.run(scenario())
