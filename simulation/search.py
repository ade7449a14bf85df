"""Run seeds, and reduce what fails to the fewest events."""

from __future__ import annotations

from typing import Any

from simulation.cluster_world import ClusterWorld
from simulation.weather import KINDS, ClusterWeather
from simulation.world import World


class Violation(AssertionError):
    """A promise was broken; the text says which, how to replay it, and what happened."""

    def __init__(self, kind: str, seed: int, cause: Exception, world: World) -> None:
        self.kind, self.seed, self.cause, self.world = kind, seed, cause, world
        super().__init__(f"{type(cause).__name__}: {cause}\nReplay: python -m simulation --replay {seed} --kind {kind}")

    def story(self, last: int = 60) -> str:
        """The schedule of faults and acts, and the end of the log."""
        schedule = [f"{at:9.3f} {name}: {what}" for at, name, what in self.world.clock.schedule]
        return "\n".join(["Schedule:", *schedule, "Log:", *self.world.clock.trace[-last:], f"Violation: {self}"])


def run(
    kind: str,
    seed: int,
    *,
    without: frozenset[str] = frozenset(),
    **variant: Any,
) -> World:
    """Run one seed; raises Violation. ``variant``: faulty parts, see :class:`World` and :class:`ClusterWorld`."""
    weather = KINDS[kind]
    world: World
    if isinstance(weather, ClusterWeather):
        world = ClusterWorld(seed, weather, without=without, **variant)
    else:
        world = World(seed, weather, without=without, **variant)
    try:
        world.run()
    except Exception as error:
        raise Violation(kind, seed, error, world) from error
    return world


def shrink(violation: Violation, *, tries: int = 400) -> Violation:
    """Leave out clients, faults and acts as long as some promise is still broken; at most ``tries`` runs."""
    world = violation.world
    smallest = violation
    without = world.clock.without
    size = max(1, len(world.clock.schedule) // 2)
    while tries > 0:
        names = [name for _, name, _ in smallest.world.clock.schedule]
        # From the end: what comes first makes what follows.
        chunks = [frozenset(names[max(0, end - size) : end]) for end in range(len(names), 0, -size)]
        found = False
        for chunk in chunks:
            if tries <= 0:
                break
            tries -= 1
            try:
                run(violation.kind, violation.seed, without=without | chunk, **world.variant)
            except Violation as smaller:
                if len(smaller.world.clock.schedule) < len(smallest.world.clock.schedule):
                    smallest, without, found = smaller, without | chunk, True
                    break
        if not found:
            if size == 1:
                break
            size = max(1, size // 2)
    return smallest
