"""One server, one process for each measurement, interleaved and repeated; medians, spreads and ratios."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    import trustme

Run = dict[str, Any]
"""What one process reports."""

Results = dict[str, list[Run]]
"""The repetitions of each client."""

HERE = Path(__file__).resolve().parent
CLIENTS = {
    "ours": "Limpet, asyncio",
    "ours-for": "Limpet, asyncio, async for",
    "ours-batches": "Limpet, asyncio, batches",
    "ours-submit": "Limpet, asyncio, futures",
    "ours-uvloop-submit": "Limpet, uvloop, futures",
    "ours-trio-submit": "Limpet, trio, futures",
    "ours-anyio-submit": "Limpet, anyio on asyncio, futures",
    "ours-sync-submit": "Limpet, blocking, futures",
    "ours-wsproto": "Limpet without its fast lane",
    "ours-uvloop": "Limpet, uvloop",
    "ours-uvloop-for": "Limpet, uvloop, async for",
    "ours-trio": "Limpet, trio",
    "ours-trio-for": "Limpet, trio, async for",
    "ours-trio-batches": "Limpet, trio, batches",
    "ours-anyio": "Limpet, anyio on asyncio",
    "ours-anyio-for": "Limpet, anyio on asyncio, async for",
    "ours-anyio-batches": "Limpet, anyio on asyncio, batches",
    "ours-anyio-trio": "Limpet, anyio on trio",
    "ours-anyio-trio-for": "Limpet, anyio on trio, async for",
    "ours-sync": "Limpet, blocking",
    "ours-sync-for": "Limpet, blocking, for",
    "aio": "official Python client 1.1.0, aio",
    "sync": "official Python client 1.1.0, blocking",
    "js": "official JavaScript client 1.1.0",
    "wsproto": "wsproto, msgspec and a callback",
    "picows": "picows, msgspec and a callback",
}


def missing(name: str) -> str | None:
    """Why a client cannot be measured here, if it cannot."""
    if name == "js":
        if shutil.which("node") is None:
            return "node is not installed"
        if not (HERE / "node_modules/@azure/web-pubsub-client").is_dir():
            return "@azure/web-pubsub-client is not installed: npm install --prefix benchmarks"
        return None
    modules = {
        "aio": ("azure.messaging.webpubsubclient", "aiohttp"),
        "sync": ("azure.messaging.webpubsubclient",),
        "ours-uvloop": ("limpet", "uvloop"),
        "ours-uvloop-for": ("limpet", "uvloop"),
        "wsproto": ("wsproto", "msgspec"),
        "picows": ("picows", "msgspec"),
    }
    for module in modules.get(name, ("limpet",)):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{module} is not installed: pip install --group bench"
    return None


def present(names: list[str]) -> list[str]:
    """Those that can be measured; the others are named, with the reason."""
    left = []
    for name in names:
        if reason := missing(name):
            print(f"skipped: {name} ({CLIENTS[name]}): {reason}")
        else:
            left.append(name)
    if not left:
        sys.exit("there is nothing left to measure")
    return left


class Server:
    """The fake service in a process of its own.

    Args:
        authority: for TLS: a throw-away CA that all clients are told to trust.
    """

    def __init__(self, authority: trustme.CA | None = None) -> None:
        self.scheme = "wss" if authority else "ws"
        self.environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self._files = tempfile.TemporaryDirectory()
        command = [sys.executable, str(HERE / "_server.py")]
        if authority is not None:
            trusted, own = Path(self._files.name, "ca.pem"), Path(self._files.name, "server.pem")
            authority.cert_pem.write_to_path(trusted)
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(own)
            command.append(str(own))
            # Python's ssl module, websocket-client, and Node.
            for name in ("SSL_CERT_FILE", "WEBSOCKET_CLIENT_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
                self.environment[name] = str(trusted)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._files.cleanup()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, **query: object) -> str:
        """Where a client is to connect, and what it is to get there."""
        return f"{self.scheme}://127.0.0.1:{self.port}/client/hubs/bench?{urlencode(query)}"

    def measure(self, name: str, job: str, limit: float, query: dict[str, object], **arguments: object) -> Run:
        """Run one client process, for at most ``limit`` seconds; the result is what it prints, or why it failed."""
        python = [sys.executable, str(HERE / "_clients.py"), name]
        command = ["node", "--expose-gc", str(HERE / "client.mjs")] if name == "js" else python
        try:
            done = subprocess.run(
                [*command, job, self.url(**query), json.dumps(arguments)],
                capture_output=True,
                text=True,
                timeout=limit,
                env=self.environment,
            )
            return json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            return {"failed": f"no result within {limit:g} s"}
        except (IndexError, ValueError):
            return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}


def parser(description: str | None, clients: list[str], *, seconds: float, reps: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument("--clients", type=split, default=",".join(clients), help=f"of {', '.join(CLIENTS)}")
    result.add_argument("--seconds", type=float, default=seconds, help="measured in each repetition")
    result.add_argument("--reps", type=int, default=reps, help="repetitions, interleaved")
    return result


def split(names: str) -> list[str]:
    unknown = set(names.split(",")) - set(CLIENTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    return names.split(",")


def sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def size_name(size: int) -> str:
    return f"{size // 1024} KiB" if size >= 1024 and size % 1024 == 0 else f"{size} B"


def spread(values: list[float], form: str) -> str:
    return f"{min(values):{form}}..{max(values):{form}}"


def repeat(names: list[str], reps: int, once: Callable[[str], Run]) -> Results:
    """Measure each client in turn, and that several times over, so that a noisy minute hits all of them."""
    results: Results = {name: [] for name in names}
    for _ in range(reps):
        for name in names:
            results[name].append(once(name))
    return results


def good(run: Run) -> bool:
    return "failed" not in run and run.get("messages", 2) > 1


def cpu(run: Run) -> float:
    """Microseconds of CPU for one."""
    return 1e6 * run["cpu"] / run["messages"]


def rate(run: Run) -> float:
    return run["messages"] / run["wall"]


def memory(run: Run) -> float:
    """KiB for one connection."""
    return run["memory"] / 1024


def ratios(results: Results, over: str, under: str, of: Callable[[Run], float]) -> list[float]:
    """How many times as much ``over`` has as ``under``, in each repetition."""
    pairs = zip(results.get(over, []), results.get(under, []), strict=False)
    return [of(a) / of(b) for a, b in pairs if good(a) and good(b)]


def why_not(runs: list[Run]) -> str:
    return next((run["failed"] for run in runs if "failed" in run), "nothing was received")


def table(unit: str, results: Results) -> str:
    """CPU for each message, messages a second, and how many times as much as the first client (ours)."""
    lines = [
        f"| client | CPU us/{unit} | spread | {unit}s/s | CPU: this / ours | spread | {unit}s/s: ours / this |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    ours = next((name for name in results if name.startswith("ours")), None)
    for name, runs in results.items():
        kept = [run for run in runs if good(run)]
        if not kept:
            lines.append(f"| {label(name)} | failed: {why_not(runs)} | | | | | |")
            continue
        cpus = [cpu(run) for run in kept]
        row = [f"{statistics.median(cpus):.2f}", spread(cpus, ".2f"), f"{statistics.median(map(rate, kept)):,.0f}"]
        if ours is not None and (more := ratios(results, name, ours, cpu)):
            row += [f"**{statistics.median(more):.2f}**" if name != ours else "1", spread(more, ".2f")]
            row.append(f"{statistics.median(ratios(results, ours, name, rate)):.2f}")
        else:
            row += ["", "", ""]
        failed = f" ({len(runs) - len(kept)} of {len(runs)} failed)" if len(kept) < len(runs) else ""
        lines.append(f"| {label(name)}{failed} | {' | '.join(row)} |")
    return "\n".join(lines)


def label(name: str) -> str:
    """The client as people call it."""
    return CLIENTS.get(name, name)
