"""What a new connection costs, and what it costs to recover one that was dropped: handshake, first message, all."""

from __future__ import annotations

import subprocess
import sys

import _harness as harness
import trustme

CONNECTING = ["ours", "ours-uvloop", "ours-trio", "ours-anyio", "aio", "js"]
RECOVERING = ["ours", "ours-uvloop", "ours-trio", "ours-anyio"]
"""The official clients wait for a second before they recover, so that there is no rate to measure."""


def connect(server: harness.Server, names: list[str], seconds: float, reps: int) -> harness.Results:
    """Open and close connections, some at a time: the official aio client takes a second to close one."""
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "connect", limit=60 + 4 * seconds, query={}, seconds=seconds)
    )


def recover(server: harness.Server, names: list[str], seconds: float, reps: int) -> harness.Results:
    """The server drops the connection each time that it has been recovered."""
    query: dict[str, object] = {"drop": 1}
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "recover", limit=60 + 4 * seconds, query=query, seconds=seconds)
    )


def main() -> None:
    parser = harness.parser(__doc__, CONNECTING, seconds=1.0, reps=3)
    parser.add_argument("--storm", type=int, default=2000, help="clients that recover at once; 0: leave that out")
    parser.add_argument("--tls", action="store_true", help="with TLS, and a certificate of a throw-away CA; no storm")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.Server(trustme.CA() if options.tls else None) as server:
        print("\nOpen and close connections, 20 at a time\n")
        print(harness.table("connection", connect(server, names, options.seconds, options.reps)), flush=True)
        names = [name for name in names if name in RECOVERING]
        print("\nRecover a connection that is dropped again and again\n")
        print(harness.table("reconnect", recover(server, names, options.seconds, options.reps)), flush=True)
    if options.storm and not options.tls and sys.platform.startswith("linux"):
        print("\nThe local service drops all clients of one process at once\n")
        print("| clients | s until the last has recovered | CPU us/client | CPU us/client of the service |")
        print("|---:|---:|---:|---:|", flush=True)
        for _ in range(options.reps):
            subprocess.run([sys.executable, str(harness.HERE / "_storm.py"), str(options.storm)], check=True)


if __name__ == "__main__":
    main()
