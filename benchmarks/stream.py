"""What it costs to write a stream: fragments to a group, through a service that acknowledges each 25."""

from __future__ import annotations

import _harness as harness


def stream(
    server: harness.Server, names: list[str], in_flight: int, size: int, seconds: float, reps: int
) -> harness.Results:
    """Fragments, each written as soon as the one before is taken over, by so many writers of one stream."""
    arguments = {"in_flight": in_flight, "seconds": seconds, "data": "x" * size}
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "stream", limit=60 + 4 * seconds, query={}, **arguments)
    )


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "js"], seconds=1.0, reps=3)
    parser.add_argument("--sizes", type=harness.sizes, default="32", help="bytes of text")
    parser.add_argument("--in-flight", type=harness.sizes, default="1", help="writers of the stream")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.Server() as server:
        for size in options.sizes:
            for in_flight in options.in_flight:
                results = stream(server, names, in_flight, size, options.seconds, options.reps)
                print(f"\nWrite fragments of a stream, {in_flight} at a time, {harness.size_name(size)} of text\n")
                print(harness.table("fragment", results), flush=True)


if __name__ == "__main__":
    main()
