"""Data of the application's own types: what fits is decoded, and what does not is told and not lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from limpet import GroupMessage, InvalidData, InvalidType, Recovered
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, raises, soon
from limpet.testing.contract.subject import GROUP


class Order(msgspec.Struct):
    """What the checks send."""

    id: int
    note: str = ""


@dataclass
class Place:
    """Another thing."""

    x: int


class Model:
    """Like a model of pydantic: recognised by ``model_validate``."""

    def __init__(self, id: int) -> None:
        self.id = id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    @classmethod
    def model_validate(cls, data: Any) -> Model:
        """Return a model; ValueError."""
        number = data.get("id") if hasattr(data, "get") else None
        if not isinstance(number, int):
            raise ValueError("id must be an int")
        return cls(number)


_KINDS: tuple[tuple[type[Any], Any, Any], ...] = (
    (Order, {"id": 1, "note": "x"}, Order(1, "x")),
    (Place, {"x": 2}, Place(2)),
    (Model, {"id": 3}, Model(3)),
    (list[Order], [{"id": 4}], [Order(4)]),
    (dict[int, Place], {"5": {"x": 5}}, {5: Place(5)}),
    (str, "text", "text"),
    (bytes, b"\x00\xff", b"\x00\xff"),
)
"""A type, what is sent, and what arrives."""


@check(needs=("types", "streams"))
async def a_subscription_gives_objects_of_its_type(harness: Harness) -> None:
    async with harness.client() as client:
        for kind, sent, expected in _KINDS:
            async with client.subscribe(type=kind) as messages:
                await client.send(sent)
                message = await messages.__anext__()
                assert type(message) is GroupMessage
                assert (message.group, message.data) == (GROUP, expected)
                messages.close()


@check(needs=("types", "streams"))
async def data_that_does_not_fit_is_raised_and_the_iteration_goes_on(harness: Harness) -> None:
    async with harness.client() as client, client.subscribe(type=Order) as messages:
        for data in ({"id": 1}, {"id": "one"}, "text", {"id": 2}):
            await client.send(data)
        assert (await messages.__anext__()).data == Order(1)
        for raw, data_type in (({"id": "one"}, "json"), ("text", "text")):
            with raises(InvalidData) as caught:
                await messages.__anext__()
            assert (caught.error.message.data, caught.error.message.data_type) == (raw, data_type)
            assert caught.error.type is Order
            assert caught.error.reason
        assert (await messages.__anext__()).data == Order(2)


@check(needs=("types", "streams"))
async def data_that_does_not_fit_goes_to_a_function_where_there_is_one(harness: Harness) -> None:
    misfits: list[InvalidData] = []
    async with harness.client() as client:
        await client.join()
        messages = client.events(GroupMessage, type=Order, on_invalid=misfits.append)
        for data in ({"id": 1}, {"id": "one"}, {"id": 2}):
            await client.send(data)
        assert [(await messages.__anext__()).data for _ in range(2)] == [Order(1), Order(2)]
        assert [error.message.data for error in misfits] == [{"id": "one"}]
        messages.close()


@check(needs=("types", "streams"))
async def a_function_for_misfits_that_raises_ends_no_iteration(harness: Harness) -> None:
    """What it raises is raised where the messages are read, once."""

    def refuse(error: InvalidData) -> None:
        raise ArithmeticError(error.message.data)

    async with harness.client() as client:
        await client.join()
        messages = client.events(GroupMessage, type=Order, on_invalid=refuse)
        for data in ({"id": "one"}, "text", {"id": 2}):
            await client.send(data)
        for raw in ({"id": "one"}, "text"):
            with raises(ArithmeticError) as caught:
                await messages.__anext__()
            assert caught.error.args == (raw,)
        assert (await messages.__anext__()).data == Order(2)
        messages.close()


@check(needs=("types", "streams"))
async def without_a_type_data_is_as_it_came(harness: Harness) -> None:
    async with harness.client() as client, client.subscribe() as messages:
        await client.send({"id": 1})
        message = await messages.__anext__()
        assert message.data == {"id": 1}
        assert message.decode(Order) == Order(1)
        with raises(InvalidData):
            message.decode(Place)


@check(needs=("types", "callbacks"))
async def a_callback_gets_objects_of_its_type_and_no_misfit(harness: Harness) -> None:
    got: list[Any] = []
    misfits: list[InvalidData] = []
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        client.on(GroupMessage, got.append, type=Order, on_invalid=misfits.append)
        await client.join()
        for data in ({"id": 1}, {"id": "one"}, {"id": 2}):
            await client.send(data)
        await log.wait(GroupMessage, 3)
        await soon(lambda: len(got) == 2)
        assert [message.data for message in got] == [Order(1), Order(2)]
        assert [error.message.data for error in misfits] == [{"id": "one"}]
        client.off(GroupMessage, got.append)
        await client.send({"id": 3})
        await log.wait(GroupMessage, 4)
        assert len(got) == 2


@check(needs=("types", "callbacks"))
async def a_misfit_that_no_function_takes_costs_nothing_but_itself(harness: Harness) -> None:
    got: list[Any] = []
    async with harness.client() as client:
        client.on(GroupMessage, got.append, type=Order)
        await client.join()
        for number in range(12):
            await client.send({"id": str(number)})
        await client.send({"id": 7})
        await soon(lambda: len(got) == 1)
        assert got[0].data == Order(7)


@check(needs=("types", "write streams", "read streams"))
async def a_reader_of_streams_gets_objects_of_its_type(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        streams = client.streams(GROUP, type=Order)
        async with client.writing() as stream:
            for data in ({"id": 1}, {"id": "one"}, {"id": 2}):
                await stream.write(data)
        incoming = await streams.__anext__()
        chunks = [await incoming.__anext__()]
        with raises(InvalidData) as caught:
            await incoming.__anext__()
        assert caught.error.message.data == {"id": "one"}
        async for chunk in incoming:
            chunks.append(chunk)  # noqa: PERF401 - to its end
        assert [(chunk.data, chunk.sequence_id) for chunk in chunks] == [(Order(1), 1), (Order(2), 3)]
        streams.close()


@check(needs=("types", "write streams", "streams"))
async def messages_of_streams_are_decoded_and_their_ends_left_out(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        messages = client.events(GroupMessage, type=Order)
        async with client.writing() as stream:
            await stream.write({"id": 1})
        await client.send({"id": 2})
        assert [(await messages.__anext__()).data for _ in range(2)] == [Order(1), Order(2)]
        messages.close()


@check(needs=("types", "streams", "callbacks", "invocations"))
async def a_type_that_cannot_be_decoded_is_refused_at_once(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        for wrong in (object, Recovered(""), "Order", Harness):
            with raises(InvalidType):
                client.events(GroupMessage, type=wrong)
            with raises(InvalidType):
                client.on(GroupMessage, print, type=wrong)
            with raises(InvalidType):
                await client.call("invoke", "order", type=wrong)
        with raises(InvalidType):
            client.events(Recovered, type=Order)
        with raises(InvalidType):
            client.on(Recovered, print, type=Order)
        with raises(InvalidType):
            client.events(GroupMessage, on_invalid=print)
        for no_function in (7, "print"):
            with raises(InvalidType):
                client.on(GroupMessage, print, type=Order, on_invalid=no_function)
        await client.send("goes on")
        await log.upto("goes on")


def _takes_two(one: Any, two: Any) -> None:
    raise AssertionError((one, two))


@check(needs=("types",))
async def a_callback_that_does_not_take_the_event_is_refused(harness: Harness) -> None:
    client = harness.client()
    wrong: tuple[Any, ...] = (_takes_two, [0].clear)
    for function in wrong:
        for named in ({}, {"type": Order}):
            with raises(InvalidType):
                client.on(GroupMessage, function, **named)


@check(needs=("types", "invocations"))
async def the_reply_to_an_invocation_is_an_object_of_its_type(harness: Harness) -> None:
    harness.service.answer("order", lambda call: {"id": call.data})
    async with harness.client() as client:
        reply = await client.call("invoke", "order", 1, type=Order)
        assert (reply.data, reply.data_type) == (Order(1), "json")
        with raises(InvalidData) as caught:
            await client.call("invoke", "order", "one", type=Order)
        assert caught.error.message.data == {"id": "one"}
