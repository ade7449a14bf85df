"""Everything, in one run: ours beside the official clients and beside recipes, interleaved and repeated.

``make bench`` prints the tables and writes them: goals and chart into docs/explanation/performance.md, all the rest
into docs/reference/measurements.md. It takes a quarter of an hour and wants a quiet machine.
``make bench BENCH="--quick"`` takes three minutes and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import _chart
import _goals
import _harness as harness
import fairness
import growth
import idle
import many
import receive
import reconnect
import send
import trustme

DOCS = harness.HERE.parent / "docs"
ADAPTERS = ["ours", "ours-for", "ours-uvloop", "ours-trio", "ours-anyio", "ours-sync"]
OTHERS = ["aio", "js", "wsproto", "picows"]
# The official blocking client takes minutes for what the others do in a second: small messages only.
FIRST = [*ADAPTERS, "ours-uvloop-for", "ours-trio-for", "ours-anyio-for", "ours-anyio-trio", "ours-anyio-trio-for"]
BATCHES = ["ours-batches", "ours-trio-batches", "ours-anyio-batches"]
SMALL = [*FIRST, *BATCHES, "ours-sync-for", "ours-wsproto", *OTHERS, "sync"]
TLS = ["ours", "ours-uvloop", "ours-trio", "ours-anyio", "ours-sync", *OTHERS]
SUBMITTING = ["ours-submit", "ours-trio-submit", "ours-anyio-submit", "ours-sync-submit"]
SENDING = ["ours", "ours-uvloop", "ours-trio", "ours-anyio", "aio", "js"]
PACED = ["ours", "ours-for", "ours-trio", "ours-anyio", "ours-sync", "aio", "js"]


class Report:
    """What was measured: raw, for goals and chart, and as Markdown, part by part."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.seconds: float = options.seconds
        self.reps: int = options.reps
        self.sizes: list[int] = options.sizes
        self.connections: int = options.connections
        self.measured: _goals.Measured = {}
        self.parts: list[str] = []

    def add(self, name: str, title: str, results: harness.Results, table: str) -> None:
        self.measured[name] = results
        self.say(title, table)

    def say(self, title: str, table: str) -> None:
        self.parts.append(f"## {title}\n\n{table}")
        print(f"\n{title}\n\n{table}", flush=True)

    # ---- The parts

    def receiving(self, server: harness.Server, kind: str = "") -> None:
        for size in self.sizes:
            names = harness.present(TLS if kind else SMALL if size == self.sizes[0] else [*ADAPTERS, *OTHERS])
            results = receive.flood(server, names, size, "ascii", self.seconds, self.reps)
            title = f"Receive, {harness.size_name(size)}{', TLS' if kind else ''}"
            self.add(f"receive{kind} {size}", title, results, harness.table("message", results))

    def sending(self, server: harness.Server, kind: str = "") -> None:
        for in_flight in (1000, 1):
            names = harness.present([*SENDING, *(["ours-sync"] if in_flight == 1 else SUBMITTING)])
            results = send.send(server, names, in_flight, 32, self.seconds, self.reps)
            title = f"Send 32 B and wait for the ack, {send.how(in_flight)}{', TLS' if kind else ''}"
            self.add(f"send{kind} {in_flight}", title, results, harness.table("send", results))

    def pacing(self, server: harness.Server) -> None:
        seconds = 2 * self.seconds
        results = receive.paced(server, harness.present(PACED), 256, 1000, 0, seconds, self.reps)
        title = "Receive, 256 B, 1,000 messages/s, each written on its own"
        self.add("paced 1000", title, results, harness.table("message", results))
        for rate in (900, 5000):
            results = receive.paced(server, harness.present(["ours", "aio", "js"]), 256, rate, 1000, seconds, 1)
            title = f"Survive {rate:,} messages/s, of which 1,000 may be unacknowledged"
            self.add(f"survive {rate}", title, results, receive.survivors(results, int(rate * seconds)))

    def idling(self, server: harness.Server) -> None:
        names = harness.present(["ours", "ours-trio", "ours-anyio", "aio", "js"])
        results = idle.idle(server, names, self.connections, 4 * self.seconds, min(self.reps, 3))
        self.add("idle", f"{self.connections:,} idle connections in one process", results, idle.table(results))

    def many(self, server: harness.Server) -> None:
        names = harness.present(["ours", "ours-trio", "ours-anyio"])
        results = many.many(server, names, self.connections, 1.0, 4 * self.seconds, min(self.reps, 3))
        title = f"{self.connections:,} clients in one process, each with a message a second"
        self.add("many", title, results, many.table(results))

    def reconnecting(self, server: harness.Server) -> None:
        # For two seconds at least: the official aio client takes one to close.
        results = reconnect.connect(server, harness.present(reconnect.CONNECTING), max(2.0, self.seconds), 1)
        table = harness.table("connection", results)
        self.add("connect", "Open and close connections, 20 at a time", results, table)
        results = reconnect.recover(server, harness.present(reconnect.RECOVERING), self.seconds, self.reps)
        title = "Recover a connection that is dropped again and again"
        self.add("recover", title, results, harness.table("reconnect", results))

    def fairness(self, server: harness.Server) -> None:
        for size in (32, 4096):
            names = harness.present(fairness.CLIENTS)
            results = fairness.beside_a_flood(server, names, size, 3 * self.seconds, self.reps)
            title = f"A timer of 10 ms beside a flood of {harness.size_name(size)} messages"
            self.add(f"fairness {size}", title, results, fairness.table(results))

    # ---- All of it

    def run(self, parts: list[str]) -> None:
        with harness.Server() as plain, harness.Server(trustme.CA()) as tls:
            everything = {
                "receive": lambda: self.receiving(plain),
                "receive-tls": lambda: self.receiving(tls, "-tls"),
                "paced": lambda: self.pacing(plain),
                "send": lambda: self.sending(plain),
                "send-tls": lambda: self.sending(tls, "-tls"),
                "idle": lambda: self.idling(plain),
                "many": lambda: self.many(plain),
                "reconnect": lambda: self.reconnecting(plain),
                "fairness": lambda: self.fairness(plain),
                "growth": lambda: self.say("Growth: CPU us (and KiB) for one of so many, in the core", growth.table()),
            }
            for part in parts or everything:
                everything[part]()
        print(f"\nGoals\n\n{_goals.table(self.measured)}")

    def charted(self) -> dict[str, harness.Results]:
        return {
            f"{harness.size_name(size)}, {kind}": self.measured[name]
            for size in self.sizes
            for kind, name in (("plain TCP", f"receive {size}"), ("TLS", f"receive-tls {size}"))
            if name in self.measured
        }

    def goals(self) -> str:
        return f"{self.conditions()}\n\n{_goals.table(self.measured)}"

    def tables(self) -> str:
        return "\n\n".join([self.conditions(), *self.parts])

    def conditions(self) -> str:
        return f"{conditions()} {self.reps} repetitions of {self.seconds:g} s."


def conditions() -> str:
    """Where and with what this was measured."""
    node = (
        subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
        if not harness.missing("js")
        else "none"
    )
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("msgspec", "wsproto", "aiohttp", "picows", "uvloop", "trio", "anyio")
    )
    return (
        f"Measured on {time.strftime('%Y-%m-%d')} with CPython {platform.python_version()}, node {node}, {libraries}, "
        f"on {platform.system()} {platform.machine()} ({processor()}), over the loopback interface."
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores, {names[0]}" if names else "unknown processor"


def write(report: Report) -> None:
    """Put goals, tables and chart where the documentation has them."""
    put(DOCS / "explanation" / "performance.md", report.goals())
    put(DOCS / "reference" / "measurements.md", report.tables())
    _chart.draw(report.charted(), DOCS / "explanation" / "performance.svg")


def put(page: Path, measured: str) -> None:
    """Replace what a page has between its markers."""
    text, count = re.subn(
        r"(<!-- measured: begin -->\n).*(<!-- measured: end -->)",
        lambda found: f"{found[1]}\n{measured}\n\n{found[2]}",
        page.read_text(),
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit(f"{page} has not exactly one pair of markers")
    page.write_text(text)
    print(f"written: {page}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of all, for a look; writes nothing")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=[], help="only these; writes nothing")
    parser.add_argument("--reps", type=int, help="repetitions, interleaved; 3")
    parser.add_argument("--seconds", type=float, help="measured in each repetition; 0.8")
    parser.add_argument("--sizes", type=harness.sizes, help="bytes of text; 32,256,4096,65536")
    parser.add_argument("--connections", type=int, help="idle ones; 1000")
    parser.add_argument("--raw", type=Path, help="write all that was measured to this JSON file")
    options = parser.parse_args()
    usual = {"reps": 3, "seconds": 0.8, "sizes": [32, 256, 4096, 65536], "connections": 1000}
    quick = {"reps": 1, "seconds": 0.3, "sizes": [32, 4096], "connections": 200}
    for name, value in (quick if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    report = Report(options)
    report.run(options.parts)
    if options.raw:
        options.raw.write_text(json.dumps({"measured": report.measured, "parts": report.parts}))
    if not options.quick and not options.parts:
        write(report)


if __name__ == "__main__":
    main()
