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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
CLIENTS = {
    "ours": "Holdfast, asyncio, callbacks",
    "ours-for": "Holdfast, asyncio, async for",
    "ours-wsproto": "Holdfast without its fast lane",
    "ours-uvloop": "Holdfast, uvloop, callbacks",
    "ours-trio": "Holdfast, trio, callbacks",
    "ours-anyio": "Holdfast, anyio on asyncio, callbacks",
    "ours-anyio-trio": "Holdfast, anyio on trio, callbacks",
    "ours-sync": "Holdfast, blocking, callbacks",
    "aio": "azure-messaging-webpubsubclient 1.1.0, aio",
    "sync": "azure-messaging-webpubsubclient 1.1.0, blocking",
    "js": "@azure/web-pubsub-client 1.1.0, node",
}


def missing(name: str) -> str | None:
    """Why a client can not be measured here, if it can not."""
    if name == "js":
        if shutil.which("node") is None:
            return "node is not installed"
        if not (HERE / "node_modules/@azure/web-pubsub-client").is_dir():
            return "@azure/web-pubsub-client is not installed: npm install --prefix benchmarks"
        return None
    modules = {
        "aio": ("azure.messaging.webpubsubclient", "aiohttp"),
        "sync": ("azure.messaging.webpubsubclient",),
        "ours-uvloop": ("holdfast", "uvloop"),
    }
    for module in modules.get(name, ("holdfast",)):
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


@contextmanager
def server() -> Iterator[int]:
    """The fake service in a process of its own; yields its port."""
    process = subprocess.Popen([sys.executable, HERE / "_server.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def url(port: int, **query: object) -> str:
    """Where a client is to connect, and what it is to get there."""
    return f"ws://127.0.0.1:{port}/client/hubs/bench?{urlencode(query)}"


def measure(name: str, job: str, where: str, limit: float, **arguments: object) -> dict[str, Any]:
    """Run one client process; the result is what it prints, or ``{"failed": why}``."""
    command = ["node", HERE / "client.mjs"] if name == "js" else [sys.executable, HERE / "_clients.py", name]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            [*command, job, where, json.dumps(arguments)],
            capture_output=True,
            text=True,
            timeout=limit,
            env=environment,
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


def repeat(names: list[str], reps: int, once: Callable[[str], dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Measure each client in turn, and that several times over, so that a noisy minute hits all of them."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(reps):
        for name in names:
            results[name].append(once(name))
    return results


def table(title: str, unit: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """CPU per message, messages a second, and how many times as much as the first client (ours)."""
    print(f"\n{title}\n")
    print(f"| client | CPU us/{unit} | spread | {unit}s/s | spread | CPU: this / ours | {unit}s/s: ours / this |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    base: tuple[float, float] | None = None
    for name, runs in results.items():
        good = [run for run in runs if "failed" not in run and run["messages"] > 1]
        if not good:
            print(f"| {name} | failed: {runs[0].get('failed', 'nothing was received')} |")
            continue
        cpus = [1e6 * run["cpu"] / run["messages"] for run in good]
        rates = [run["messages"] / run["wall"] for run in good]
        cpu, rate = statistics.median(cpus), statistics.median(rates)
        if base is None and name.startswith("ours"):
            base = cpu, rate
        ratios = f"{cpu / base[0]:.2f} | {base[1] / rate:.2f}" if base else "- | -"
        fail = f" ({len(runs) - len(good)} of {len(runs)} runs failed)" if len(good) < len(runs) else ""
        print(
            f"| {name}{fail} | {cpu:.2f} | {spread(cpus, '.2f')} | {rate:,.0f} | {spread(rates, ',.0f')} | {ratios} |",
            flush=True,
        )
