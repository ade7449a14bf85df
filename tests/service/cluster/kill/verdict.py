"""What publishers sent and members got, and what was wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Sent:
    """What a publisher sent: numbers 1, 2, 3, ..."""

    name: str
    sent: int = 0
    acked: set[int] = field(default_factory=set[int])
    disconnects: int = 0


@dataclass
class Got:
    """What a member got: the name of the publisher and the number of each message, in order.

    ``since`` has, for each publisher, the newest number that was sent before the member had its present connection.
    """

    name: str
    received: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    since: dict[str, int] = field(default_factory=dict[str, int])
    disconnects: int = 0


@dataclass(frozen=True)
class Verdict:
    """What was wrong, counted over all members.

    Attributes:
        acked: messages that the service has said to have published.
        delivered: messages that members got.
        lost: acked messages that a member did not get, though it was connected when they were sent, and since.
        duplicates: messages that a member got again.
        disorder: messages that a member got after a later one of the same publisher.
        invented: messages that nobody has sent.
        disconnects: connections that were lost for good.
    """

    acked: int = 0
    delivered: int = 0
    lost: int = 0
    duplicates: int = 0
    disorder: int = 0
    invented: int = 0
    disconnects: int = 0

    @property
    def faults(self) -> int:
        """What is never allowed, whatever happens to nodes and engine."""
        return self.lost + self.duplicates + self.disorder + self.invented


def missing(publisher: Sent, member: Got) -> set[int]:
    """Return the acked messages of a publisher that a member should have got, and has not."""
    due = {number for number in publisher.acked if number > member.since.get(publisher.name, 0)}
    return due - {number for name, number in member.received if name == publisher.name}


def judge(publishers: Iterable[Sent], members: Iterable[Got]) -> Verdict:
    """Return what was wrong."""
    sent = {publisher.name: publisher for publisher in publishers}
    delivered = lost = duplicates = disorder = invented = disconnects = 0
    for member in members:
        delivered += len(member.received)
        disconnects += member.disconnects
        lost += sum(len(missing(publisher, member)) for publisher in sent.values())
        seen: set[tuple[str, int]] = set()
        newest: dict[str, int] = {}
        for name, number in member.received:
            if name not in sent or not 0 < number <= sent[name].sent:
                invented += 1
            elif (name, number) in seen:
                duplicates += 1
            elif number < newest.get(name, 0):
                disorder += 1
            seen.add((name, number))
            newest[name] = max(number, newest.get(name, 0))
    return Verdict(
        acked=sum(len(publisher.acked) for publisher in sent.values()),
        delivered=delivered,
        lost=lost,
        duplicates=duplicates,
        disorder=disorder,
        invented=invented,
        disconnects=disconnects + sum(publisher.disconnects for publisher in sent.values()),
    )
