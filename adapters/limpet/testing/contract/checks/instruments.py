"""Instruments: they hear of every request, message and change of the connection, and can break nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from limpet import (
    ClientInfo,
    Connected,
    ConnectionFailed,
    Disconnected,
    GroupMessage,
    Instrument,
    InvocationError,
    Observation,
    OutgoingRequest,
    Recovered,
    Recovering,
    SendError,
    ServerMessage,
    Stopped,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, logged, raises, soon
from limpet.testing.contract.subject import GROUP, Steps

_within: ContextVar[object] = ContextVar("limpet.testing.contract.within", default=None)


class _Noted(Observation):
    def __init__(self, ends: list[Any], of: object) -> None:
        self._ends = ends
        self._of = of

    @contextmanager
    def _current(self) -> Generator[None]:
        token = _within.set(self._of)
        try:
            yield
        finally:
            _within.reset(token)

    def within(self) -> AbstractContextManager[object]:
        return self._current()

    def ended(self, error: BaseException | None, seconds: float) -> None:
        assert seconds >= 0
        self._ends.append((self._of, None if error is None else type(error)))


class _Notes(Instrument):
    """Writes down all that it hears."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int | None]] = []
        self.ends: list[tuple[str, type | None]] = []
        self.heard: list[Any] = []
        self.calls: list[tuple[Any, type | None]] = []
        self.changes: list[type] = []
        self.clients: set[ClientInfo] = set()

    def request(self, client: ClientInfo, request: OutgoingRequest) -> Observation:
        self.clients.add(client)
        self.requests.append((request.operation, request.target, request.size))
        request.add_metadata({"trace": request.operation, "own": "the instrument's"})
        return _Noted(self.ends, request.operation)

    def messages(self, client: ClientInfo, messages: Sequence[GroupMessage | ServerMessage]) -> None:
        self.clients.add(client)
        self.heard += [message.data for message in messages]

    def callback(
        self, client: ClientInfo, message: GroupMessage | ServerMessage, callback: Callable[[Any], object]
    ) -> Observation:
        return _Noted(self.calls, message.data)

    def lifecycle(self, client: ClientInfo, event: Any) -> None:
        assert client.server_address == "127.0.0.1"
        assert isinstance(client.server_port, int)
        self.changes.append(event.__class__)


class _Broken(Instrument):
    """Raises wherever it can."""

    def request(self, client: ClientInfo, request: OutgoingRequest) -> Observation | None:
        request.add_metadata({"": "no name", "trace": "x" * 2000, "good": "one"})
        if request.operation == "send_to_group":
            return _BrokenObservation()
        raise ZeroDivisionError("request")

    def messages(self, client: ClientInfo, messages: Sequence[GroupMessage | ServerMessage]) -> None:
        raise ZeroDivisionError("messages")

    def callback(
        self, client: ClientInfo, message: GroupMessage | ServerMessage, callback: Callable[[Any], object]
    ) -> Observation | None:
        if message.data % 3 == 0:
            raise ZeroDivisionError("callback")
        return _BrokenObservation(message.data % 3 == 1)

    def lifecycle(self, client: ClientInfo, event: Any) -> None:
        raise ZeroDivisionError("lifecycle")


class _BrokenObservation(Observation):
    def __init__(self, late: bool = False) -> None:
        self._late = late

    def within(self) -> AbstractContextManager[object]:
        if self._late:
            return self._leaves()
        raise ZeroDivisionError("within")

    @contextmanager
    def _leaves(self) -> Generator[None]:
        yield
        raise ZeroDivisionError("within")

    def ended(self, error: BaseException | None, seconds: float) -> None:
        raise ZeroDivisionError("ended")


@check("transport", needs=("instrument", "invocations"))
async def an_instrument_hears_of_requests_and_their_outcome_over_a_cut(harness: Harness) -> None:
    notes = _Notes()
    harness.service.answer("add", lambda request: request.data + 1)
    async with harness.client(instrument=notes) as client:
        await client.join()
        await client.send("12345")
        harness.service.cut()
        await client.send(b"123")
        await client.send({"a": 1}, ack=False)
        assert (await client.call("invoke", "add", 1)).data == 2
        with raises(InvocationError):
            await client.call("invoke", "other")
        with raises(SendError):
            await client.call("send_event", "other", "x")
        await client.leave()
        await soon(lambda: Recovered in notes.changes)
    assert notes.requests == [
        ("join_group", GROUP, None),
        ("send_to_group", GROUP, 5),
        ("send_to_group", GROUP, 3),
        ("send_to_group", GROUP, 7),
        ("invoke", "add", 1),
        ("invoke", "other", None),
        ("send_event", "other", 1),
        ("leave_group", GROUP, None),
    ]
    outcomes: list[type | None] = [
        InvocationError if name == "invoke" and target == "other" else None for name, target, _ in notes.requests
    ]
    outcomes[6] = SendError
    assert notes.ends == [(name, outcome) for (name, _, _), outcome in zip(notes.requests, outcomes, strict=True)]
    assert len(notes.clients) == 1


@check("transport", needs=("instrument",))
async def an_instrument_hears_of_every_message_once_and_of_what_happens_to_the_connection(harness: Harness) -> None:
    notes = _Notes()
    async with harness.client(instrument=notes) as client:
        await client.join()
        harness.service.publish(GROUP, range(20))
        harness.service.cut()
        harness.service.publish(GROUP, range(20, 40))
        await soon(lambda: len(notes.heard) >= 40)
        first = client.connection_id
        assert first is not None
        harness.service.end(first)
        await soon(lambda: client.connection_id not in (None, first))
    await soon(lambda: Stopped in notes.changes)
    assert notes.heard == list(range(40))
    changes = [change for change in notes.changes if change not in (Recovering, ConnectionFailed, Recovered)]
    assert changes[:3] == [Connected, Disconnected, Connected]
    assert changes[-1] is Stopped
    assert {Recovering, Recovered} < set(notes.changes)


@check(needs=("instrument", "callbacks"))
async def callbacks_run_within_their_observation_also_while_they_wait(harness: Harness) -> None:
    notes = _Notes()
    seen: list[tuple[str, object, object]] = []

    def plain(message: GroupMessage) -> None:
        seen.append(("plain", message.data, _within.get()))

    def waiting(message: GroupMessage) -> Steps:
        seen.append(("waiting", message.data, _within.get()))
        yield "sleep", 0.001
        seen.append(("waited", message.data, _within.get()))
        if message.data == 3:
            raise ZeroDivisionError("bad")

    with logged() as errors:
        async with harness.client(instrument=notes) as client:
            client.on_steps(GroupMessage, waiting)
            client.on(GroupMessage, plain)
            await client.join()
            harness.service.publish(GROUP, range(4))
            await soon(lambda: len(seen) == 12 and len(notes.calls) == 8)
            client.off(GroupMessage, plain)
            with raises(Exception):
                client.off(GroupMessage, plain)
    assert errors == ["bad"]
    assert seen == [(name, number, number) for number in range(4) for name in ("waiting", "waited", "plain")]
    failed = [(3, ZeroDivisionError), (3, None)]
    assert notes.calls == [(number, None) for number in range(3) for _ in range(2)] + failed
    assert _within.get() is None


@check(needs=("instrument", "invocations"))
async def metadata_of_an_instrument_arrives_beside_that_of_the_application(harness: Harness) -> None:
    async with harness.client(instrument=_Notes()) as client, harness.client() as member:
        log = Log(member, GroupMessage)
        await member.join()
        await client.send(1)
        await client.send(2, metadata={"own": "the application's"})
        await client.send(3, ack=False)
        await soon(lambda: len(log.events) == 3)
    trace = {"trace": "send_to_group"}
    ours, theirs = trace | {"own": "the instrument's"}, trace | {"own": "the application's"}
    assert [message.metadata for message in log.events] == [ours, theirs, ours]


@check(needs=("instrument", "invocations", "callbacks", "log"))
async def an_instrument_that_raises_is_logged_and_holds_up_nothing(harness: Harness) -> None:
    heard: list[int] = []

    def waiting(message: GroupMessage) -> Steps:
        yield "sleep", 0
        heard.append(message.data)

    with logged() as errors:
        async with harness.client(instrument=_Broken()) as client:
            client.on_steps(GroupMessage, waiting)
            client.on(GroupMessage, lambda message: heard.append(message.data))
            log = Log(client, GroupMessage)
            await client.join()
            for number in range(9):
                await client.send(number, ack=number % 2 == 0)
            harness.service.cut()
            await client.send(9)
            await soon(lambda: len(log.events) == 10 and len(heard) == 20)
            await client.leave()
    assert heard == [number for number in range(10) for _ in range(2)]
    assert {repr(message.metadata) for message in log.events} == {"{'good': 'one'}"}
    assert sorted(errors) == ["callback", "ended", "lifecycle", "messages", "request", "within"], "each once"


@check(needs=("instrument", "invocations", "size limit"))
async def metadata_that_makes_a_message_too_large_is_left_out(harness: Harness) -> None:
    class Large(Instrument):
        def request(self, client: ClientInfo, request: OutgoingRequest) -> None:
            request.add_metadata({f"k{number}": "x" * 1000 for number in range(20)})

    async with harness.client(instrument=Large(), max_request_size=1000) as client:
        log = Log(client, GroupMessage)
        await client.join()
        await client.send("a")
        await client.send("b", ack=False, metadata={"own": "1"})
        await soon(lambda: len(log.events) == 2)
    assert [message.metadata for message in log.events] == [None, {"own": "1"}]


@check(needs=("instrument", "cancel"))
async def an_instrument_hears_of_a_request_that_is_given_up(harness: Harness) -> None:
    notes = _Notes()
    async with harness.client(instrument=notes) as client:
        await client.join()
        harness.service.refuse()
        harness.service.cut()
        assert await client.gives_up(0.05, "send_to_group", GROUP, "late")
        assert notes.ends[-1][0] == "send_to_group"
        assert notes.ends[-1][1] is not None
