"""Does the cost of one stay flat when there are many? Connections, groups and requests, from 1 to 10,000.

The core alone, without sockets: what the operating system and an event loop add does not depend on us.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

from _workloads import BATCH, connected, frame, message

import holdfast

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
            session._sequence.last = 0
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
        session._sequence.last = 0
        link.receive_data(GROUP_MESSAGES, 0.0)
        assert len(session.events()) == BATCH
        link.data_to_send()

    return joining, best(receive, BATCH)


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


def main() -> None:
    print(f"Holdfast {holdfast.__version__}, CPU us and KiB for one of so many\n")
    print("| of | open a connection | its memory, KiB | receive on any | join a group | receive in all | request |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for count in COUNTS:
        opening, memory, receiving = connections(count)
        joining, in_groups = groups(count)
        asking = requests(count)
        print(
            f"| {count:,} | {opening:.0f} | {memory:.1f} | {receiving:.2f} | {joining:.1f} | {in_groups:.2f} "
            f"| {asking:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
