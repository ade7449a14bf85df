"""Allowance: the limit on all that waits for the service, which requests share with other parts of a session."""

from __future__ import annotations


class Allowance:
    """How much may wait for the service at a time: requests, and what other parts have waiting.

    Attributes:
        requests: how many requests may wait at the moment.
    """

    __slots__ = ("_most", "requests")

    def __init__(self, most: int) -> None:
        self._most = most
        self.requests: int = most

    @property
    def taken(self) -> int:
        """How many things wait that are no requests."""
        return self._most - self.requests

    def take(self) -> None:
        """Count one thing more that waits and is no request."""
        self.requests -= 1

    def give_back(self) -> None:
        """Count one less."""
        self.requests += 1
