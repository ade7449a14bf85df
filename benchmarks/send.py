"""What it costs to send: acknowledged messages to a group, many in flight or one after the other.

The clients named ``-submit`` send by ``client.submit``: futures in one task, no task for each request.
"""

from __future__ import annotations

import _harness as harness
import trustme


def send(
    server: harness.Server, names: list[str], in_flight: int, size: int, seconds: float, reps: int
) -> harness.Results:
    """Requests, each made again as soon as it is answered."""
    arguments = {"in_flight": in_flight, "seconds": seconds, "data": "x" * size}
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "send", limit=60 + 4 * seconds, query={}, **arguments)
    )


def how(in_flight: int) -> str:
    return "one after the other" if in_flight == 1 else f"{in_flight:,} in flight"


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "ours-submit", "aio", "js"], seconds=1.0, reps=3)
    parser.add_argument("--sizes", type=harness.sizes, default="32", help="bytes of text")
    parser.add_argument("--in-flight", type=harness.sizes, default="1000,1", help="requests that wait at a time")
    parser.add_argument("--tls", action="store_true", help="with TLS, and a certificate of a throw-away CA")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.Server(trustme.CA() if options.tls else None) as server:
        for size in options.sizes:
            for in_flight in options.in_flight:
                results = send(server, names, in_flight, size, options.seconds, options.reps)
                print(f"\nSend and wait for the ack, {how(in_flight)}, {harness.size_name(size)} of text\n")
                print(harness.table("send", results), flush=True)


if __name__ == "__main__":
    main()
