"""What a join of a crowded group costs: one snapshot with 1,000 states, then one update for each of them.

``python benchmarks/states.py`` takes a few seconds. The goal is 20 ms of CPU for the snapshot; the exit status says
whether it was reached. The ratio to group messages of the same number of bytes holds on any machine.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from limpet import Options, Session

STATES = 1000
GOAL = 0.020
TURNS = 20
NOW = 100.0
URL = "wss://example.test/client/hubs/chat?access_token=x"
HELLO = '{"type":"system","event":"connected","connectionId":"c1","reconnectionToken":"t"}'


def item(number: int, at: int) -> dict[str, Any]:
    """The state of one connection, as people have it in a room."""
    state = {"name": f"Person {number}", "status": "typing", "color": "#336699"}
    return {"connectionId": f"connection-{number:020}", "userId": f"user{number}", "state": state, "updatedAt": at}


def said(kind: str, items: list[dict[str, Any]]) -> bytes:
    return json.dumps({"type": kind, "group": "room", "items": items}, separators=(",", ":")).encode()


def subscribed() -> Session:
    """A session that waits for the states of a group."""
    session = Session(Options(keepalive_interval=None), random=lambda: 0.5)
    session.start(NOW)
    session.url_ready(URL, NOW)
    session.connected(NOW)
    session.receive_message(HELLO, NOW)
    ack_id = session.subscribe_group_states("room", NOW)
    session.messages_to_send()
    session.receive_message(json.dumps({"type": "ack", "ackId": ack_id, "success": True}), NOW)
    session.events()
    return session


def best(prepare: Callable[[], Session], messages: list[bytes]) -> float:
    """Seconds of CPU to receive ``messages`` and take the events, the shortest of many turns."""
    shortest = float("inf")
    for _ in range(TURNS):
        session = prepare()
        start = time.process_time()
        session.receive_messages(messages, NOW)
        session.events()
        shortest = min(shortest, time.process_time() - start)
    return shortest


def main() -> int:
    snapshot = said("groupStateSnapshot", [item(number, 1) for number in range(STATES)])
    updates = [said("groupStateUpdate", [item(number, 2)]) for number in range(STATES)]

    def crowded() -> Session:
        session = subscribed()
        session.receive_messages([snapshot], NOW)
        session.events()
        return session

    text = "x" * (len(snapshot) // STATES)
    message = {"type": "message", "from": "group", "group": "room", "dataType": "text", "data": text}
    messages = [json.dumps(message | {"sequenceId": number}).encode() for number in range(1, STATES + 1)]
    whole, anew, each, plain = (
        best(subscribed, [snapshot]),
        best(crowded, [snapshot]),
        best(crowded, updates),
        best(subscribed, messages),
    )
    print(f"{STATES:,} states of {len(snapshot) // STATES} bytes")
    print(f"one snapshot of all, the first      {1e3 * whole:8.2f} ms")
    print(f"the same once more (a recovery)     {1e3 * anew:8.2f} ms")
    print(f"an update of each, among all others {1e3 * each:8.2f} ms")
    print(f"as many group messages of that size {1e3 * plain:8.2f} ms")
    print(f"snapshot / group messages: {whole / plain:.2f}")
    print(f"goal, {1e3 * GOAL:g} ms for the snapshot: {'reached' if whole < GOAL else 'MISSED'}")
    return whole >= GOAL


if __name__ == "__main__":
    sys.exit(main())
