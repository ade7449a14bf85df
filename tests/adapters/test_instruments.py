"""Instruments: what the contract of clients does not say of them."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

import pytest
from tests.helpers.waiting import until

import limpet.asyncio
import limpet.sync
from limpet import ClientInfo, GroupMessage, Instrument, InvalidType, Observation, OutgoingRequest, Recovered, Session
from limpet._clients.callbacks import give_up
from limpet._clients.instruments import Instruments
from limpet.testing import BackgroundService, VirtualService

MESSAGE = GroupMessage(group="g", data=1)


class Ends(Instrument):
    """Notes how requests and callbacks end."""

    def __init__(self) -> None:
        self.ends: list[type | None] = []

    def request(self, client: ClientInfo, request: OutgoingRequest) -> Observation:
        return End(self.ends)

    def callback(self, client: ClientInfo, message: Any, callback: Callable[[Any], object]) -> Observation:
        return End(self.ends)


class End(Observation):
    def __init__(self, ends: list[type | None]) -> None:
        self.ends = ends

    def ended(self, error: BaseException | None, seconds: float) -> None:
        self.ends.append(None if error is None else type(error))


def observed(instrument: Instrument) -> Instruments:
    return Instruments(instrument, Session(random=random.random))


class Raises:
    """A context manager that raises the exception that it is given."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert error is not None
        raise error


class Surrounds(Instrument, Observation):
    """Surrounds callbacks with such a context manager."""

    def callback(self, client: ClientInfo, message: Any, callback: Callable[[Any], object]) -> Observation:
        return self

    def within(self) -> AbstractContextManager[object]:
        return Raises()


def test_an_exception_of_a_callback_is_no_failure_of_what_surrounds_it(caplog: pytest.LogCaptureFixture) -> None:
    def fails(message: GroupMessage) -> None:
        raise ValueError("of the callback")

    with pytest.raises(ValueError, match="of the callback"):
        observed(Surrounds()).callback(fails)(MESSAGE)
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["asyncio", "trio", "anyio", "sync"])
def test_only_an_instrument_is_one(kind: str) -> None:
    client = importlib.import_module(f"limpet.{kind}").Client
    with pytest.raises(InvalidType, match=r"instrument must be a limpet\.Instrument, not type"):
        client("ws://localhost/client/hubs/chat", instrument=Instrument)


def test_without_an_instrument_a_callback_is_called_as_it_is() -> None:
    """Nothing is asked for each message."""
    plain, watched = (limpet.asyncio.Client("ws://localhost/", instrument=each) for each in (None, Instrument()))
    for client in (plain, watched):
        client.on(GroupMessage, print)
        client.on(Recovered, print)
    registered = plain._delivery.callbacks.registered
    assert registered[GroupMessage][0] is registered[Recovered][0] is print
    assert plain._delivery.instruments is None
    registered = watched._delivery.callbacks.registered
    assert registered[GroupMessage][0] is not print
    assert registered[Recovered][0] is print


def test_an_instrument_that_overrides_nothing_does_nothing() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url(), instrument=Instrument()) as client:
        heard: list[object] = []
        client.on(GroupMessage, heard.append)
        client.join_group("g")
        client.send_to_group("g", "x", ack=False)
        client.send_to_group("g", "y")
        until(lambda: len(heard) == 2)
    assert [message.metadata for message in heard if isinstance(message, GroupMessage)] == [None, None]


def test_a_client_of_a_virtual_service_has_its_instrument_as_well() -> None:
    class Notes(Instrument):
        def __init__(self) -> None:
            self.heard: list[object] = []

        def lifecycle(self, client: ClientInfo, event: object) -> None:
            self.heard.append(event)

    service, notes = VirtualService(), Notes()

    async def main() -> None:
        async with limpet.asyncio.Client(service.url(), connect=service.connect, instrument=notes) as client:
            service.cut()
            await asyncio.sleep(60)
            await client.join_group("g")

    service.run(main())
    assert any(isinstance(event, Recovered) for event in notes.heard)


def test_an_async_callback_that_is_given_up_ends_and_is_closed() -> None:
    ends = Ends()
    closed: list[str] = []

    async def callback(message: GroupMessage) -> None:
        closed.append("begun")

    awaitable = observed(ends).callback(callback)(MESSAGE)
    give_up(awaitable)
    gc.collect()  # a coroutine that was not closed would warn
    assert (ends.ends, closed) == ([asyncio.CancelledError], [])


def test_a_task_that_a_callback_returned_is_cancelled_with_it() -> None:
    async def main() -> None:
        ends = Ends()
        task = asyncio.create_task(asyncio.sleep(3600))
        give_up(observed(ends).callback(lambda message: task)(MESSAGE))
        await asyncio.wait([task])
        assert task.cancelled()
        assert ends.ends == [asyncio.CancelledError]

    asyncio.run(main())


def test_a_callback_is_equal_to_what_is_observed_of_it() -> None:
    instruments = observed(Ends())
    assert instruments.callback(print) == print
    assert instruments.callback(print) == instruments.callback(print)
    assert instruments.callback(print) != instruments.callback(repr)
    assert len({instruments.callback(print), print}) == 1


def test_the_first_failure_is_an_error_in_the_log_and_the_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Instrument):
        def messages(self, client: ClientInfo, messages: object) -> None:
            raise ZeroDivisionError

    instruments = observed(Broken())
    with caplog.at_level(logging.DEBUG, "limpet"):
        for _ in range(3):
            instruments.observe([MESSAGE])
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.DEBUG, logging.DEBUG]
    assert "the instrument failed in messages; the client goes on" in caplog.records[0].message


@pytest.mark.parametrize(
    ("data", "data_type", "size"),
    [
        ("ab", None, 2),
        ("\N{BULLET}", "text", 3),
        ("ab", "json", 4),
        (b"abc", None, 3),
        (bytearray(5), "binary", 5),
        ([1, 2], None, 5),
        (None, None, None),
        (object(), None, None),
    ],
    ids=lambda value: None if type(value) is object else str(value),
)
def test_the_size_of_a_request_is_that_of_its_data(data: object, data_type: str | None, size: int | None) -> None:
    assert OutgoingRequest("send_to_group", "g", data, data_type).size == size
    assert OutgoingRequest("set_group_state", "g", data).size is None


@pytest.mark.parametrize("own", [None, {}, {"own": "1"}, MappingProxyType({"own": "1"})], ids=str)
def test_metadata_is_added_to_that_of_the_application(own: Mapping[str, str] | None) -> None:
    class Adds(Instrument):
        def request(self, client: ClientInfo, request: OutgoingRequest) -> None:
            request.add_metadata({"own": "2", "more": "3"})
            seen.append(dict(request.metadata))

    seen: list[dict[str, str]] = []
    service = VirtualService()

    async def main() -> None:
        client = limpet.asyncio.Client(service.url(), connect=service.connect, instrument=Adds())
        async with client, client.subscribe("g") as messages:
            await client.send_to_group("g", "x", metadata=own)
            message = await anext(messages)
            seen.append(message.metadata or {})

    service.run(main())
    assert seen[-2:] == [{"own": "1" if own else "2", "more": "3"}] * 2


@pytest.mark.parametrize("added", [None, 5, {1: "2"}, {"a": 1}, {"a": None}], ids=str)
def test_metadata_that_an_instrument_breaks_breaks_no_request(added: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(Ends):
        def request(self, client: ClientInfo, request: OutgoingRequest) -> Observation:
            request.added = added
            return super().request(client, request)

    instrument = Breaks()
    service = VirtualService()

    async def main() -> None:
        client = limpet.asyncio.Client(service.url(), connect=service.connect, instrument=instrument)
        async with client:
            await client.send_to_group("g", "x")

    service.run(main())
    assert instrument.ends == [None]
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "the instrument failed in request; the client goes on, and further failures there are logged as DEBUG"
    ]


@pytest.mark.parametrize("metadata", ["no mapping", {"": "x"}, {1: "x"}, {"a": 1}, [("a", "b")]], ids=str)
def test_wrong_arguments_raise_as_without_an_instrument(metadata: Any) -> None:
    class Adds(Instrument):
        def request(self, client: ClientInfo, request: OutgoingRequest) -> None:
            request.add_metadata({"more": "3"})

    service = VirtualService()

    async def refused(instrument: Instrument | None, *wrong: Any, **named: Any) -> str:
        client = limpet.asyncio.Client(service.url(), connect=service.connect, instrument=instrument)
        async with client:
            with pytest.raises(limpet.LocalProtocolError) as raised:
                await client.send_to_group(*wrong, **named)
            assert raised.value.__context__ is None or instrument is None
            return repr(raised.value)

    async def main() -> None:
        for wrong, named in ((("g", "x"), {"metadata": metadata}), ((5, "x"), {}), ((None, "x"), {})):
            assert await refused(Adds(), *wrong, **named) == await refused(None, *wrong, **named)

    service.run(main())


def test_a_request_that_is_thrown_away_ends() -> None:
    """Closed, as a coroutine that nobody awaits any more is."""
    ends = Ends()
    service = VirtualService()

    async def main() -> None:
        client = limpet.asyncio.Client(service.url(), connect=service.connect, instrument=ends)
        async with client:
            coroutine = client.send_to_group("g", "x")
            coroutine.send(None)
            coroutine.close()

    service.run(main())
    assert ends.ends == [GeneratorExit]
