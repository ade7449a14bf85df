"""Profiles: which checks fit which kind of client."""

from __future__ import annotations

from dataclasses import dataclass, replace

from limpet.testing.contract.check import Check, needs_of
from limpet.testing.contract.checks import CHECKS
from limpet.testing.contract.needs import ALL, Need


@dataclass(frozen=True)
class Profile:
    """What a client can do, and so which checks it is held to.

    Args:
        name: for the reader of a report.
        needs: what it can do.
    """

    name: str
    needs: frozenset[Need]

    def without(self, *needs: Need) -> Profile:
        """Return a profile that can do less."""
        return replace(self, needs=self.needs - set(needs))

    def fits(self, check: Check) -> bool:
        """Return whether a check needs no more than this; always true for a check of your own."""
        return (needs_of(check) or frozenset()) <= self.needs

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the contract that fit."""
        return tuple(check for check in CHECKS if self.fits(check))


LIMPET = Profile("limpet", ALL)
"""A client with one of Limpet's drivers."""

CONNECTED = LIMPET.without("size limit")
"""One of Limpet's clients over another WebSocket library, by ``connect=``."""

OWN_DRIVER = LIMPET.without("suspends", "log", "instrument", "submit", "batches")
"""A client around a ``Session``, with a driver of its own over sockets, and with the whole API of Limpet's clients."""

BROWSER = OWN_DRIVER.without(
    "status", "retry after", "pause", "backpressure", "size limit", "addresses", "url function"
)
"""A client over the WebSocket of a browser, or of anything that tells as little."""

BARE = Profile("bare", frozenset())
"""A client that starts and stops, sends the four requests, and calls plain callbacks: ``start``, ``stop``, ``on``."""

PROFILES = {
    name: replace(profile, name=name)
    for name, profile in {
        "limpet": LIMPET,
        "connected": CONNECTED,
        "own driver": OWN_DRIVER,
        "browser": BROWSER,
        "bare": BARE,
    }.items()
}
"""The profiles by name."""
