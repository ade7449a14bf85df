"""The search for a run in which the oracles notice a fault, and where it begins for faults that show in few runs.

It goes on over all seeds: the test passes wherever the fault shows. An entry that has ceased to show its fault costs
one run of the search, no more; the run that the search finds may take its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from simulation.search import Violation, run

SHOWN: Final = {
    "takes repeats": ("cluster-fork", 9),
    "believes every verdict": ("cluster-gentle", 22),
    "hears the dead": ("cluster-fork", 7),
    "goes back in time": ("cluster-gentle", 16),
    "ends members of nodes far behind": ("cluster-fork", 4),
    "repeats out of order": ("cluster-fork", 11),
    "forgets the clients of the dead": ("cluster-wild", 13),
    "reads before replication": ("cluster-gentle", 10),
    "hides gaps": ("wild", 6),
    "repeats publishes on another connection": ("wild", 2),
    "stop waits for ever": ("wild-resend", 9),
    "gives up where a provider is": ("wild-resend", 6),
    "readers: keep streams of a lost connection": ("wild", 3),
    "readers: get more streams than they want": ("wild", 10),
    "states: removed ones stay": ("gentle-framed", 3),
    "states: the own one is not restored": ("wild-resend", 2),
    "states: old ones are trusted after a recovery": ("wild", 5),
    "service: does not end the streams of a connection that is over": ("wild", 3),
    "service: does not tell of states that are cleared": ("gentle-framed", 3),
}
"""The kind of run and the seed that show a fault, by its name."""

DISORDERED: Final = {
    "calm": 14,
    "gentle-silent": 10,
    "gentle-framed": 8,
    "wild": 4,
    "wild-silent": 16,
    "wild-framed": 48,
    "wild-plain": 24,
    "wild-resend": 19,
}
"""The seed that shows a session where an older state wins, by the kind of run."""


def first_violation(
    kinds: Iterable[str], seeds: Iterable[int], *, shown: tuple[str, int] | None = None, **faulty: Any
) -> Violation | None:
    """Search for a run in which an oracle notices a fault; ``shown``: where to begin."""
    kinds = tuple(kinds)
    for kind, seed in [*([] if shown is None else [shown]), *((kind, seed) for seed in seeds for kind in kinds)]:
        try:
            run(kind, seed, **faulty)
        except Violation as violation:
            return violation
    return None
