"""One client under test in a process of its own, a cutting proxy before it, and the service that knows the truth."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.soak.plan import GROUP_DOWN, GROUP_UP, Fault, Plan, faults

from limpet.service import Service
from limpet.testing._tally import Tally
from limpet.testing.network import ChaosProxy
from limpet_core.service import JSON, ClientGrant, group_publication

HERE = Path(__file__).resolve().parent
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
_OPENING = 30.0  # seconds for a client to be in its group; nine of them start at once
_CLOSING = 20.0  # seconds for a client to stop and to tell


@dataclasses.dataclass
class Row:
    """What became of one client.

    Attributes:
        messages: how many were to be delivered and to be executed.
        cuts: how often its connection was cut.
        lost: messages not delivered, and calls said to be done that the service did not execute.
        duplicated: deliveries that came again.
        executed_twice: publishes that the service executed more than once.
        out_of_order: deliveries that came after a later one.
        failed: calls that raised an error.
        stalled: calls that had no answer at the end of the grace.
        leaked: tasks, threads and open files that were left after the client had stopped.
        slowest: the longest call that was answered, in seconds.
        broken: why there is nothing to tell, or "".
    """

    name: str
    messages: int = 0
    cuts: int = 0
    lost: int = 0
    duplicated: int = 0
    executed_twice: int = 0
    out_of_order: int = 0
    failed: int = 0
    stalled: int = 0
    leaked: int = 0
    slowest: float = 0.0
    broken: str = ""
    details: str = ""

    @property
    def clean(self) -> bool:
        """Whether everything is as it should be."""
        faults = (self.lost, self.duplicated, self.executed_twice, self.out_of_order, self.failed, self.stalled)
        return not self.broken and not any(faults) and not self.leaked and self.cuts > 0 and self.messages > 0


async def soak(names: list[str], plan: Plan) -> list[Row]:
    """All clients at the same time, each on a hub and behind a proxy of its own, through the same faults."""
    async with Service() as service:
        return await asyncio.gather(*(_one(service, name, plan) for name in names))


async def _one(service: Service, name: str, plan: Plan) -> Row:
    hub = name.replace("-", "_")
    row = Row(name)
    witness = service.core.connect(hub, JSON, ClientGrant(groups=(GROUP_UP,)), asyncio.get_running_loop().time())
    executed: list[int] = []

    async def watch() -> None:
        while True:
            for message in map(json.loads, witness.messages_to_send()):
                if message["type"] == "message":
                    executed.append(int(message["data"]))
            await asyncio.sleep(0.02)

    async with ChaosProxy(service.host, service.port) as proxy:
        url = service.client_url(hub, user_id=name, roles=ROLES)
        url = url.replace(f":{service.port}/", f":{proxy.port}/", 1)
        process = await _start(name, url, plan)
        told = asyncio.create_task(process.communicate())
        watcher = asyncio.create_task(watch())
        try:
            if await _is_member(service, hub, process):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_publish(service, hub, plan))
                    tasks.create_task(_disturb(proxy, faults(plan)))
            async with asyncio.timeout(plan.grace + _CLOSING):
                out, err = await asyncio.shield(told)
        except TimeoutError:
            process.kill()
            out, err = await told
            row.broken = "it did not come to an end"
        finally:
            watcher.cancel()
        await asyncio.sleep(0.1)  # what it sent last is executed
        executed += [int(message["data"]) for message in map(json.loads, witness.messages_to_send())]
        row.cuts = proxy.cuts
    try:
        report = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        row.broken = row.broken or (err.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        return row
    judge(row, plan, report, executed)
    return row


async def _start(name: str, url: str, plan: Plan) -> asyncio.subprocess.Process:
    command = ["node", str(HERE / "client.mjs")] if name == "js" else [sys.executable, "-m", "benchmarks.soak.client"]
    return await asyncio.create_subprocess_exec(
        *command,
        name,
        url,
        json.dumps({**dataclasses.asdict(plan), "messages": plan.messages, "up": GROUP_UP, "down": GROUP_DOWN}),
        cwd=HERE.parent.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )


async def _is_member(service: Service, hub: str, process: asyncio.subprocess.Process) -> bool:
    """Wait until the client is in its group; false if it ended before."""
    async with asyncio.timeout(_OPENING):
        while process.returncode is None:
            if service.hub(hub).members(GROUP_DOWN):
                return True
            await asyncio.sleep(0.02)
    return False


async def _publish(service: Service, hub: str, plan: Plan) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(plan.messages):
        await asyncio.sleep(begin + number / plan.rate - loop.time())
        publication = group_publication(GROUP_DOWN, None, "text", b'"%d"' % number)
        service.core.send_to_group(hub, GROUP_DOWN, publication)
        service.flush()


async def _disturb(proxy: ChaosProxy, schedule: list[Fault]) -> None:
    for fault in schedule:
        await asyncio.sleep(fault.after)
        match fault.kind:
            case "reset" | "end" as how:
                proxy.cut(reset=how == "reset")
            case "cut to client":
                proxy.cut_after(fault.size, "to_client")
            case "cut to service":
                proxy.cut_after(fault.size, "to_service")
            case "refuse":
                proxy.cut()
                proxy.refuse(fault.lasts)
            case "stall" | "half" as how:
                proxy.stall(None if how == "stall" else "to_client" if fault.size % 2 else "to_service")
                await asyncio.sleep(fault.lasts)
                proxy.cut()
                proxy.resume()
                continue
            case "slow":
                proxy.delay = 0.03
            case "pieces":
                proxy.segment = fault.size + 1
        await asyncio.sleep(fault.lasts)
        proxy.delay, proxy.segment = 0.0, None
    proxy.accept()


def judge(row: Row, plan: Plan, report: dict[str, Any], executed: list[int]) -> None:
    """Compare what the client says with what the service knows."""
    received = Tally()
    for number in report["received"]:
        received.add(number)
    times = Counter(executed)
    row.messages = 2 * plan.messages
    row.lost = received.lost(plan.messages) + sum(number not in times for number in report["done"])
    row.duplicated = received.duplicated
    row.executed_twice = sum(count > 1 for count in times.values())
    row.out_of_order = received.out_of_order
    row.failed = sum(report["failed"].values())
    row.stalled = report["stalled"]
    row.leaked = sum(max(count, 0) for count in report["left"].values())
    row.slowest = report["slowest"]
    with contextlib.suppress(KeyError):
        row.broken = report["broken"]
    details = [f"{count} x {error}" for error, count in report["failed"].items()]
    details += [f"left: {count} {what}" for what, count in report["left"].items() if count > 0]
    row.details = "; ".join(details)
