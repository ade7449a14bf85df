"""What it costs to receive: the same flood of group messages for each client, ours and the official ones."""

from __future__ import annotations

import statistics

import _harness as harness
import trustme


def flood(server: harness.Server, names: list[str], size: int, text: str, seconds: float, reps: int) -> harness.Results:
    """As many messages as the client takes."""
    query: dict[str, object] = {"size": size, "text": text, "warm": seconds / 4, "seconds": seconds}
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "receive", limit=30 + 20 * seconds, query=query)
    )


def paced(
    server: harness.Server, names: list[str], size: int, rate: float, cap: int, seconds: float, reps: int
) -> harness.Results:
    """So many messages a second, each written on its own; with ``cap`` that many may be unacknowledged."""
    query: dict[str, object] = {"size": size, "rate": rate, "cap": cap, "seconds": seconds}
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "receive", limit=30 + 20 * seconds, query=query)
    )


def survivors(results: harness.Results, total: int) -> str:
    """Who was still connected at the end."""
    lines = [
        "| client | survived | messages received | CPU us/message | what ended it |",
        "|---|---|---:|---:|---|",
    ]
    for name, runs in results.items():
        good = [run for run in runs if "failed" not in run]
        if not good:
            lines.append(f"| {harness.label(name)} | failed: {harness.why_not(runs)} | | | |")
            continue
        survived = sum("lost" not in run for run in good)
        received = statistics.median([run["messages"] + ("lost" not in run) for run in good])
        cpu = statistics.median([1e6 * run["cpu"] / max(run["messages"], 1) for run in good])
        cause = next((run["lost"] for run in good if "lost" in run), "")
        row = [f"{survived} of {len(runs)}", f"{received:,.0f} of {total:,}", f"{cpu:.1f}", cause]
        lines.append(f"| {harness.label(name)} | {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "ours-for", "ours-wsproto", "aio", "js"], seconds=1.0, reps=3)
    parser.add_argument("--sizes", type=harness.sizes, default="32,256,4096,65536", help="bytes of text")
    parser.add_argument("--text", choices=["ascii", "mixed"], default="ascii", help="mixed: with accents and escapes")
    parser.add_argument("--tls", action="store_true", help="with TLS, and a certificate of a throw-away CA")
    parser.add_argument("--paced", type=float, metavar="RATE", help="messages/s instead of a flood")
    parser.add_argument("--cap", type=int, default=1000, help="with --paced: unacknowledged messages; 0: no cap")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.Server(trustme.CA() if options.tls else None) as server:
        for size in options.sizes:
            what = f"{harness.size_name(size)} of text in each group message"
            if options.paced:
                results = paced(server, names, size, options.paced, options.cap, options.seconds, options.reps)
                cap = f"the connection ends at {options.cap} unacknowledged messages" if options.cap else "no cap"
                print(f"\nReceive, {what}, paced {options.paced:,.0f} messages/s for {options.seconds:g} s, {cap}\n")
                print(survivors(results, int(options.paced * options.seconds)), flush=True)
            else:
                results = flood(server, names, size, options.text, options.seconds, options.reps)
                print(f"\nReceive, {what}\n\n{harness.table('message', results)}", flush=True)


if __name__ == "__main__":
    main()
