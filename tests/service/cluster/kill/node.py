"""``python -m tests.service.cluster.kill.node JSON``: a node of a cluster, in a process of its own.

Prints lines of JSON: first its port and the name of this run, then where it reads the log, at each change. It ends
with its standard input, so that nothing outlives a test that was killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from limpet.service import ClusterOptions, ClusterRefused, Service, ServiceOptions, serve
from limpet.service.cluster import LogError
from limpet_core.service.cluster.commands import Entry
from limpet_core.service.cluster.shared_state import SharedState

EXPELLED = 3
"""The exit code of a node that its cluster has given up."""
NO_LOG = 4
"""The exit code of a node that cannot use the log."""

RETAINED = 100_000
"""Messages that wait for a client: on a slow machine it takes a while to come back, and is not to be ended for that."""

_LOOK = 0.05


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def without_the_counter_rule() -> None:
    """Let every entry of a member count, also one that was there before: what the tests have to notice."""
    rule = SharedState._counts

    def counts(self: SharedState, entry: Entry) -> bool:
        member = self.members.get(entry.node)
        if member is None or entry.counter == 0:
            return rule(self, entry)
        member.counter = max(member.counter, entry.counter)
        member.seen = self.core.now
        return True

    SharedState._counts = counts  # type: ignore[method-assign]


async def until_input_ends(services: list[Service]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    told = ""
    while not ended.is_set():
        view = services[0].cluster
        state = None if view is None else view.log
        reads = "nothing" if state is None or state.source is None else state.source
        if reads != told:
            tell(reads=reads)
            told = reads
        try:
            async with asyncio.timeout(_LOOK):
                await ended.wait()
        except TimeoutError:
            continue
    loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    plan = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if plan.get("without_the_counter_rule"):
        without_the_counter_rule()
    services: list[Service] = []

    def started(service: Service) -> None:
        services.append(service)
        tell(port=service.port, run=service._gateway.replica.node)  # type: ignore[attr-defined]

    try:
        serve(
            ServiceOptions(access_key=plan["key"], retained_messages=RETAINED),
            port=0,
            on_start=started,
            until=lambda: until_input_ends(services),
            cluster=ClusterOptions(url=plan["url"], name=plan["name"]),
        )
    except ClusterRefused as error:
        logging.error("%s", error)
        sys.exit(EXPELLED)
    except LogError as error:
        logging.error("%s", error)
        sys.exit(NO_LOG)


if __name__ == "__main__":
    main()
