"""What it costs to send: acknowledged messages to a group, many in flight or one after the other."""

from __future__ import annotations

import _harness as harness


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "aio", "js"], seconds=1.0, reps=3)
    parser.add_argument("--sizes", type=harness.sizes, default="32", help="bytes of text")
    parser.add_argument("--in-flight", type=harness.sizes, default="1000,1", help="requests that wait at a time")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.server() as port:
        for size in options.sizes:
            for in_flight in options.in_flight:
                arguments = {"in_flight": in_flight, "seconds": options.seconds, "data": "x" * size}
                results = harness.repeat(
                    names,
                    options.reps,
                    lambda name, arguments=arguments: harness.measure(
                        name, "send", harness.url(port), 60 + 4 * options.seconds, **arguments
                    ),
                )
                how = "one after the other" if in_flight == 1 else f"{in_flight} in flight"
                harness.table(f"Send and wait for the ack, {how}, {harness.size_name(size)} of text", "send", results)


if __name__ == "__main__":
    main()
