"""An application as type checkers see it. They must refuse the lines with a comment that begins with "error:"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

import msgspec

import limpet.anyio
import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import (
    Ack,
    GroupMessage,
    InvalidData,
    Message,
    Options,
    Recovered,
    Reply,
    SendTimeout,
    ServerMessage,
    StreamChunk,
    StreamTimeout,
)


class Order(msgspec.Struct):
    id: int


@dataclass
class Confirmed:
    order: int


def misfit(error: InvalidData) -> None:
    print(error.message, error.reason)


async def asyncio_application(client: limpet.asyncio.Client) -> None:
    await client.start(timeout=5.0)
    assert_type(await client.join_group("room", timeout=5), Ack)
    try:
        assert_type(await client.send_to_group("room", Order(1), timeout=5.0), Ack)
        assert_type(await client.send_to_group("room", Order(1), ack=False, timeout=5.0), None)
    except SendTimeout as error:
        print(error.outcome, error.ack_id)

    async with client.subscribe("room", type=Order, timeout=5.0) as orders:
        async for message in orders:
            assert_type(message, GroupMessage[Order])
            assert_type(message.data, Order)
            print(message.data.number)  # error: an Order has no number
    async with client.subscribe("room") as messages:
        async for plain in messages:
            assert_type(plain.decode(Confirmed), Confirmed)
            print(plain.data["anything"])
    async for event in client.events(GroupMessage, Recovered):
        print(event)
    async for typed in client.events(GroupMessage, type=list[Order], on_invalid=misfit):
        assert_type(typed.data, list[Order])
    async for served in client.events(ServerMessage, type=Order):
        assert_type(served.data, Order)
    async for either in client.events(GroupMessage, ServerMessage, type=Order):
        assert_type(either.data, Order)
    client.events(Recovered, type=Order)  # error: a Recovered has no data
    client.subscribe("room", type=Order(1))  # error: not a type
    client.subscribe("room", type=Order, on_invalid=print, timeout="5")  # error: not a number

    reply = await client.invoke("order", Order(1), type=Confirmed, timeout=5)
    assert_type(reply, Reply[Confirmed])
    assert_type(reply.data.order, int)
    async for stream in client.streams("room", type=Order):
        async for chunk in stream:
            assert_type(chunk, StreamChunk[Order])
    async for batch in client.batches():
        assert_type(batch, list[Message])
    async for untyped in client.streams():
        async for fragment in untyped:
            print(fragment.data, fragment.sequence_id)
    try:
        async with client.open_stream("room", timeout=5) as writer:
            await writer.write("x", timeout=1)
            await writer.flush(timeout=1)
            await writer.end(timeout=1)
    except StreamTimeout as late:
        print(late.outcome)
    async with client.watch_group_states("room", timeout=5) as states:
        print(dict(states))


def callbacks(client: limpet.trio.Client) -> None:
    @client.on(GroupMessage)
    async def show(message: GroupMessage) -> None:
        print(message.data)

    @client.on(GroupMessage)
    def show_all(message: GroupMessage | ServerMessage) -> None:
        print(message.data)

    @client.on(GroupMessage, type=Order)
    def order(message: GroupMessage[Order]) -> None:
        print(message.data.id)

    @client.on(ServerMessage, type=Order, on_invalid=misfit)
    async def served(message: ServerMessage[Order]) -> None:
        print(message.data.id)

    @client.on(Recovered)  # error: takes another event
    def wrong(message: GroupMessage) -> None:
        print(message)

    @client.on(GroupMessage)  # error: takes nothing
    def nothing() -> None:
        print("x")

    @client.on(GroupMessage, type=Order)  # error: takes other data
    def places(message: GroupMessage[Confirmed]) -> None:
        print(message.data)

    client.on(GroupMessage, show)
    client.on(GroupMessage, lambda message: print(message.group))
    client.on(Recovered, show)  # error: takes another event
    client.on(GroupMessage, order, type=Order)
    client.on(GroupMessage, order, type=Confirmed)  # error: takes other data


def blocking_application(client: limpet.sync.Client) -> None:
    client.start(timeout=5)
    assert_type(client.join_group("room", timeout=5), Ack)
    with client.subscribe("room", type=Order) as orders:
        for message in orders:
            assert_type(message.data, Order)
        assert_type(orders.next(timeout=1), GroupMessage[Order])
    for typed in client.events(GroupMessage, type=Order, on_invalid=misfit):
        assert_type(typed.data.id, int)
    for stream in client.streams("room", type=Order):
        for chunk in stream:
            assert_type(chunk.data, Order)
    assert_type(client.invoke("order", type=Confirmed).data, Confirmed)
    with client.open_stream("room", timeout=5) as writer:
        writer.write("x", timeout=1)
    client.events(Recovered, type=Order)  # error: a Recovered has no data


async def anyio_application(client: limpet.anyio.Client) -> None:
    await client.run(timeout=5)
    async with client.subscribe("room", type=Order) as orders:
        async for message in orders:
            assert_type(message.data, Order)


def options() -> None:
    assert_type(Options.from_mapping({"ack_timeout": 5}), Options)
    Options.from_mapping(7)  # error: not a mapping
