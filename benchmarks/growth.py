"""Does the cost of one stay flat when there are many? Connections, groups, subscriptions and requests, 1 to 10,000.

The core alone, and for subscriptions the part of the clients that hands on messages, without sockets: what the
operating system and an event loop add does not depend on us.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

from _workloads import BATCH, CONNECTED, URL, connected, frame, message, opened
from simulation.inspect import pending, see_up_to

import limpet
from limpet.asyncio import Client

COUNTS = (1, 10, 100, 1000, 10_000)
REPS = 5
ACK = b'{"type":"ack","ackId":%d,"success":true}'
GROUP_MESSAGES = b"".join(frame(message(number, 32)) for number in range(1, BATCH + 1))


def best(run: Callable[[], object], count: int) -> float:
    """Microseconds of CPU for each of ``count``, the best of some turns."""
    times = []
    for _ in range(REPS):
        gc.collect()
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e6 * min(times) / count


def connections(count: int) -> tuple[float, float, float]:
    """CPU of opening one, memory of one, CPU of one message to any of them."""
    connected()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    many = [connected() for _ in range(count)]
    gc.collect()
    memory = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    opening = best(lambda: [connected() for _ in range(min(count, 1000))], min(count, 1000))
    each = 10
    data = b"".join(frame(message(number, 32)) for number in range(1, each + 1))
    rounds = max(1, 5000 // count)

    def receive() -> None:
        for session, link in many * rounds:
            see_up_to(session, 0)
            link.receive_data(data, 0.0)
            session.events()
            link.data_to_send()

    return opening, memory / 1024, best(receive, count * rounds * each)


def groups(count: int) -> tuple[float, float]:
    """CPU of joining one, and of one message while in all of them."""
    session, link = connected()
    start = time.process_time()
    for number in range(count):
        key = session.join_group(f"group-{number}", 0.0)
        link.data_to_send()
        link.receive_data(frame(ACK % key), 0.0)
        session.events()
    joining = 1e6 * (time.process_time() - start) / count
    assert len(session.groups) == count

    def receive() -> None:
        see_up_to(session, 0)
        link.receive_data(GROUP_MESSAGES, 0.0)
        assert len(session.events()) == BATCH
        link.data_to_send()

    return joining, best(receive, BATCH)


def subscriptions(count: int) -> float:
    """CPU of handing one message to its subscription, beside so many to other groups."""
    client = Client(URL)
    delivery, own = client._delivery, client._open((limpet.GroupMessage,), "bench")
    for number in range(count):
        client._open((limpet.GroupMessage,), f"group-{number}")
    batch = [limpet.GroupMessage(group="bench", data="x")] * BATCH

    def deliver() -> None:
        delivery.deliver(batch)
        own.items.clear()

    return best(deliver, BATCH)


def requests(count: int) -> float:
    """CPU of one request, call to answer, with so many unanswered at a time."""
    session, link = connected()
    rounds = max(1, 5000 // count)

    def run() -> None:
        for _ in range(rounds):
            keys = [session.send_to_group("bench", "hello", 0.0) for _ in range(count)]
            for start in range(0, count, 250):
                link.data_to_send()
                link.receive_data(b"".join([frame(ACK % key) for key in keys[start : start + 250]]), 0.0)
            assert len(session.events()) == count

    return best(run, rounds * count)


def recoveries(count: int) -> float:
    """CPU of recovering one of so many connections, both ends of the handshake included."""
    many = [connected() for _ in range(count)]
    few = many[:: max(1, count // 200)]
    now = 0.0

    def run() -> None:
        nonlocal now
        now += 10.0
        for number, (session, link) in enumerate(few):
            link.transport_lost("cut", now)
            few[number] = session, opened(session, b'{"type":"pong"}', now)
            assert len(session.events()) == 2

    return best(run, len(few))


def rejoins(count: int) -> float:
    """CPU of joining one of so many groups again, on the connection that takes the place of a lost one."""
    session, link = connected()
    for number in range(count):
        key = session.join_group(f"group-{number}", 0.0)
        link.data_to_send()
        link.receive_data(frame(ACK % key), 0.0)
    session.events()
    link.receive_data(b"\x88\x02\x03\xf0", 1.0)  # close code 1008: not to be recovered
    session.wake(session.deadline)
    session.url_ready(URL, 2.0)
    start = time.process_time()
    link = opened(session, CONNECTED, 2.0)
    waiting = [request.key for request in pending(session)]
    for at in range(0, count, 500):
        link.data_to_send()
        link.receive_data(b"".join([frame(ACK % key) for key in waiting[at : at + 500]]), 2.0)
    spent = time.process_time() - start
    assert len(session.groups) == count
    assert not pending(session)
    return 1e6 * spent / count


COLUMNS = (
    "open a connection",
    "its memory, KiB",
    "recover it",
    "receive on any",
    "join a group",
    "receive in all",
    "join it again",
    "hand to one of the subscriptions",
    "request",
)


def table(counts: tuple[int, ...] = COUNTS) -> str:
    for once in (connections, groups, recoveries, rejoins, subscriptions, requests):
        once(10)  # what is done for the first time costs more
    lines = [f"| of | {' | '.join(COLUMNS)} |", f"|---:{'|---:' * len(COLUMNS)}|"]
    for count in counts:
        opening, memory, receiving = connections(count)
        joining, in_groups = groups(count)
        cells = [
            f"{opening:.0f}",
            f"{memory:.1f}",
            f"{recoveries(count):.0f}",
            f"{receiving:.2f}",
            f"{joining:.1f}",
            f"{in_groups:.2f}",
            f"{rejoins(count):.1f}" if count > 1 else "",
            f"{subscriptions(count):.2f}",
            f"{requests(count):.2f}",
        ]
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    print(f"Limpet {limpet.__version__}, CPU us and KiB for one of so many\n\n{table()}")


if __name__ == "__main__":
    main()
