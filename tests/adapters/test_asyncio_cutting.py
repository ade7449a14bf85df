"""Real clients and the real service, with a proxy between them that cuts: nothing lost, nothing twice, in order."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.adapters.harness import GROUP, Log, nothing_left, options, run, soon, url_of, within

from holdfast import Connected, Disconnected, GroupMessage, MessagesMissed, Recovered, SendError
from holdfast._proxy import CuttingProxy
from holdfast.asyncio import Client
from holdfast.service import Service

COUNT = 3000


async def connect(service: Service, proxy: CuttingProxy, count: int, **changes: Any) -> list[Client]:
    """So many clients behind the proxy, started and in the group but for the first."""
    clients = [Client(url_of(service, f"user-{n}", proxy.port), options(**changes)) for n in range(count)]
    for client in clients:
        await client.start()
    for client in clients[1:]:
        await client.join_group(GROUP)
    return clients


async def stop(clients: list[Client]) -> None:
    await within(3, asyncio.gather(*(client.stop() for client in clients)))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_publisher_and_two_subscribers_through_cuts_of_every_kind(seed: int) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            clients = await connect(service, proxy, 3, connect_timeout=1.0)
            logs = [Log(client) for client in clients]
            iterated: list[int] = []

            async def read() -> None:
                async for message in clients[2]:
                    iterated.append(message.data)  # noqa: PERF401 - looked at while it grows

            reader = asyncio.create_task(read())
            cutting = asyncio.create_task(proxy.disturb(chance, 0.01, 0.05))
            duplicates = 0
            sent = 0
            while sent < COUNT:
                batch = range(sent, min(sent + chance.randrange(1, 60), COUNT))
                acks = await within(15, asyncio.gather(*(clients[0].send_to_group(GROUP, n) for n in batch)))
                duplicates += sum(ack.duplicate for ack in acks)
                sent = batch.stop
                await asyncio.sleep(chance.uniform(0, 0.02))
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
            await within(10, logs[1].wait(GroupMessage, COUNT))
            await soon(lambda: len(iterated) >= COUNT)
            assert [message.data for message in logs[1].of(GroupMessage)] == list(range(COUNT))
            assert iterated == list(range(COUNT))
            for log in logs:
                assert not log.of(MessagesMissed)
                assert not log.of(Disconnected), "every connection was recovered"
                assert not log.of(Connected)
            assert proxy.cuts > 20
            assert sum(len(log.of(Recovered)) for log in logs) > 20
            assert duplicates, "no cut fell between executed and acked: the test proves nothing"
            await stop(clients)
            await within(2, reader)

    run(scenario, limit=40, debug=False)


def test_cuts_between_executed_and_acked_only() -> None:
    async def scenario() -> None:
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            publisher, subscriber = await connect(service, proxy, 2)
            log = Log(subscriber, GroupMessage)
            recoveries = Log(publisher, Recovered)
            duplicates = 0
            for number in range(150):
                proxy.cut_after(0, "to_client")  # the next thing said to anybody: an ack or the message
                ack = await within(5, publisher.send_to_group(GROUP, number))
                duplicates += ack.duplicate
            proxy.heal()
            await log.wait(GroupMessage, 150)
            assert [message.data for message in log.events] == list(range(150))
            assert proxy.cuts >= 150
            assert duplicates > 10
            assert len(recoveries.events) >= duplicates
            await stop([publisher, subscriber])

    run(scenario, limit=40, debug=False)


@pytest.mark.parametrize("direction", ["to_client", "to_service"])
def test_a_cut_after_every_number_of_bytes(direction: Any) -> None:
    """Handshake, messages, acks: wherever the cut falls, the whole arrives."""

    async def scenario() -> None:
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            (client,) = await connect(service, proxy, 1)
            log = Log(client, GroupMessage)
            await client.join_group(GROUP)
            numbers = range(0, 700, 7)
            for number in numbers:
                proxy.cut_after(number, direction, reset=bool(number % 2))
                await within(5, client.send_to_group(GROUP, number))
            proxy.heal()
            await within(5, log.wait(GroupMessage, len(numbers)))
            assert [message.data for message in log.events] == list(numbers)
            assert proxy.cuts > 10
            await stop([client])

    run(scenario, limit=40, debug=False)


def test_without_acks_nothing_comes_twice_or_out_of_order() -> None:
    async def scenario() -> None:
        chance = random.Random(3)
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            publisher, subscriber = await connect(service, proxy, 2)
            log = Log(subscriber, GroupMessage, MessagesMissed)
            cutting = asyncio.create_task(proxy.disturb(chance, 0.01, 0.05))
            for number in range(1000):
                await publisher.send_to_group(GROUP, number, ack=False)
                if number % 10 == 0:
                    await asyncio.sleep(0.005)
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
            await within(5, publisher.send_to_group(GROUP, 1000))
            await soon(lambda: log.events and log.events[-1].data == 1000)
            numbers = [message.data for message in log.of(GroupMessage)]
            assert numbers == sorted(set(numbers))
            assert not log.of(MessagesMissed), "the subscriber got what the service published"
            await stop([publisher, subscriber])

    run(scenario, limit=40, debug=False)


def test_connections_that_can_not_be_recovered_publish_nothing_twice() -> None:
    """The service forgets connections at once: what fails is unknown or unsent, and only that may be missing."""

    async def scenario() -> None:
        chance = random.Random(4)
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            publisher = Client(url_of(service, port=proxy.port), options())
            subscriber = Client(url_of(service), options())
            log = Log(subscriber, GroupMessage)
            connections = Log(publisher, Connected)
            await publisher.start()
            await subscriber.start()
            await subscriber.join_group(GROUP)
            acked: list[int] = []
            unknown: list[int] = []
            failures: set[tuple[str, str]] = set()

            async def publish(number: int) -> None:
                try:
                    await publisher.send_to_group(GROUP, number)
                except SendError as error:
                    failures.add((error.name, error.outcome))
                    unknown.append(number)
                else:
                    acked.append(number)

            for start in range(0, 600, 20):
                tasks = [asyncio.create_task(publish(number)) for number in range(start, start + 20)]
                if chance.random() < 0.7:
                    proxy.cut_after(chance.randrange(600), "to_client")
                    await asyncio.sleep(0.003)
                    for connection_id in list(service.hub("chat").connections):
                        if connection_id != subscriber.connection_id:
                            service.core.close_connection(connection_id, "gone")
                    service.flush()
                await within(5, asyncio.gather(*tasks))
            proxy.heal()
            # The last connection may have been ended without the publisher's knowledge so far.
            await soon(lambda: publisher.connection_id in service.hub("chat").connections)
            # One more, which is executed for certain, and whose answer is lost for certain.
            proxy.stall("to_client")
            lost = asyncio.create_task(publish(600))
            await soon(lambda: log.events and log.events[-1].data == 600)
            proxy.cut()
            service.core.close_connection(publisher.connection_id or "", "gone")
            service.flush()
            proxy.resume()
            await within(5, lost)
            await publisher.send_to_group(GROUP, "last")
            await soon(lambda: log.events and log.events[-1].data == "last")
            got = [message.data for message in log.events][:-1]
            assert got == sorted(set(got))
            assert failures == {("ConnectionLost", "unknown")}
            assert set(acked) <= set(got) <= set(acked) | set(unknown)
            assert len(connections.events) > 5
            await stop([publisher, subscriber])

    run(scenario, limit=40, debug=False)


@pytest.mark.parametrize("count", [900, 2500])
def test_many_unanswered_requests_are_not_executed_again(count: int) -> None:
    """The service remembers the ack ids of the last 1000 requests: no more may be unanswered at a time."""

    async def scenario() -> None:
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            (publisher,) = await connect(service, proxy, 1)
            subscriber = Client(url_of(service), options())
            await subscriber.start()
            await subscriber.join_group(GROUP)
            log = Log(subscriber, GroupMessage)
            proxy.stall("to_client")
            sending = [asyncio.create_task(publisher.send_to_group(GROUP, number)) for number in range(count)]
            await soon(lambda: len(log.events) >= min(count, 200))
            await asyncio.sleep(0.1)
            proxy.cut()
            proxy.resume()
            await within(10, asyncio.gather(*sending))
            await publisher.send_to_group(GROUP, count)
            await soon(lambda: log.events[-1].data == count)
            assert [message.data for message in log.events] == list(range(count + 1))
            await stop([publisher, subscriber])

    run(scenario, limit=40, debug=False)


# --- The proxy itself ---------------------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def with_proxy(scenario: Any) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        async with CuttingProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
            await scenario(proxy)
        server.close()
        await server.wait_closed()
        await nothing_left()

    run(main)


def test_the_proxy_passes_everything_on_and_counts() -> None:
    async def scenario(proxy: CuttingProxy) -> None:
        data = random.Random(5).randbytes(2_000_000)
        cases = ((None, 0.0, 2_000_000), (7, 0.0, 5000), (None, 0.01, 500_000), (99, 0.01, 9999))
        for proxy.segment, proxy.delay, size in cases:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(data[:size])
            assert await within(5, reader.readexactly(size)) == data[:size]
            writer.close()
            await writer.wait_closed()
        assert (proxy.connections, proxy.cuts, proxy.refused) == (4, 0, 0)

    with_proxy(scenario)


@pytest.mark.parametrize("reset", [True, False])
def test_the_proxy_cuts(reset: bool) -> None:
    async def scenario(proxy: CuttingProxy) -> None:
        streams = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(3)]
        for reader, writer in streams:
            writer.write(b"x")
            await within(2, reader.readexactly(1))
        assert proxy.cut(reset=reset) == 3
        assert proxy.cut(reset=reset) == 0
        for reader, writer in streams:
            if reset:
                with pytest.raises(ConnectionResetError):
                    await within(2, reader.read())
            else:
                assert await within(2, reader.read()) == b""
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert proxy.cuts == 3

    with_proxy(scenario)


def test_the_proxy_cuts_after_so_many_bytes() -> None:
    async def scenario(proxy: CuttingProxy) -> None:
        for direction, got in (("to_client", b"abc"), ("to_service", b"abc")):
            proxy.cut_after(3, direction, reset=False)  # type: ignore[arg-type]
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"abcdef")
            if direction == "to_client":
                assert await within(2, reader.read()) == got
            else:
                assert got.startswith(await within(2, reader.read()))
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert proxy.cuts == 2
        with pytest.raises(ValueError, match="n_bytes"):
            proxy.cut_after(-1)

    with_proxy(scenario)


def test_the_proxy_stalls_and_refuses_and_is_stopped_all_the_same() -> None:
    async def scenario(proxy: CuttingProxy) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.stall("to_client")
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await within(0.05, reader.readexactly(1))
        proxy.resume()
        assert await within(2, reader.readexactly(1)) == b"x"
        proxy.refuse(0.1)
        refused, refused_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await within(2, refused.read())
        refused_writer.close()
        await asyncio.gather(refused_writer.wait_closed(), return_exceptions=True)
        assert proxy.refused == 1
        writer.write(b"y")  # those that are open stay so
        assert await within(2, reader.readexactly(1)) == b"y"
        await asyncio.sleep(0.12)
        _, other = await asyncio.open_connection("127.0.0.1", proxy.port)
        await soon(lambda: proxy.connections == 2)
        proxy.stall()
        proxy.refuse(60)
        await proxy.stop()
        await proxy.stop()
        for stream in (writer, other):
            stream.close()
            await asyncio.gather(stream.wait_closed(), return_exceptions=True)

    with_proxy(scenario)
