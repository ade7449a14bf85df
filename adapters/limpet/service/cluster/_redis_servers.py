"""What the servers of an engine say about themselves, and which of them to append to and to read from. No IO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from limpet.service.cluster._redis_url import Address
from limpet_core.text import one_line

_OLDEST: Final = (6, 2)
_FORKS: Final = {"valkey_version": "Valkey", "redict_version": "Redict"}
"""Engines that came from Redis 7.2, by the field with their version; ``redis_version`` is the Redis they are like."""
_MAX_REPLICAS: Final = 16
"""Replicas that a primary may name; further ones are not asked."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server as its ``INFO`` shows it."""

    address: Address
    run_id: str
    engine: str
    """For people, such as ``Valkey 8.1.1``."""
    is_primary: bool
    history: str
    """The replication id: the same at a primary and at the replicas that follow it."""
    history_before: str
    """The replication id that a promoted replica had before."""
    link_up: bool
    """A replica: whether it follows its primary at this moment."""
    priority: int
    """A replica: Sentinel promotes that of the lowest number, and never one of 0."""
    replicas: tuple[Address, ...]
    primary: Address | None
    """A replica: the server that it is to follow."""
    refusal: str | None
    """Why it must not be used, and what to do; None if it may be."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where to append and where to read."""

    primary: Server | None = None
    source: Server | None = None
    """None: read nothing at this moment."""
    problem: str | None = None
    """What is wrong, if anything is."""
    lasting: bool = False
    """Whether the problem stays until somebody changes a setting."""

    @property
    def degraded(self) -> bool:
        """Whether the primary is read, so that what was read may be lost with it."""
        return self.source is not None and self.source is self.primary


def parse_info(address: Address, info: str) -> Server | None:
    """Return what ``INFO`` says; None if that is not the INFO of a server which has its data.

    Nothing in it is trusted to be there, or to be of the right form.
    """
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line and not line.startswith("#"))
    role = fields.get("role")
    if role not in ("master", "slave") or not fields.get("run_id"):
        return None
    replicas = [_replica(fields.get(f"slave{number}", "")) for number in range(_MAX_REPLICAS)]
    return Server(
        address=address,
        run_id=fields["run_id"],
        engine=_engine(fields),
        is_primary=role == "master",
        history=fields.get("master_replid", ""),
        history_before=fields.get("master_replid2", ""),
        link_up=fields.get("master_link_status") == "up" and fields.get("loading", "0") == "0",
        priority=_number(fields.get("slave_priority"), 100),
        replicas=tuple(each for each in replicas if each is not None),
        primary=_address(fields.get("master_host"), fields.get("master_port")),
        refusal=_refusal(address, fields),
    )


def _engine(fields: dict[str, str]) -> str:
    field = next((field for field in _FORKS if field in fields), "redis_version")
    return f"{_FORKS.get(field, 'Redis')} {one_line(fields.get(field, ''), 40) or 'of an unknown version'}"


def _refusal(address: Address, fields: dict[str, str]) -> str | None:
    numbers = tuple(_number(part, -1) for part in fields.get("redis_version", "").split(".")[:2])
    if (len(numbers) != 2 or numbers < _OLDEST) and not any(field in fields for field in _FORKS):
        return (
            f"{address} is {_engine(fields)}, which is too old for the log of a cluster. "
            "Use Redis 6.2 or newer, or Valkey"
        )
    policy = fields.get("maxmemory_policy", "noeviction")
    if _number(fields.get("maxmemory"), 0) > 0 and policy != "noeviction":
        return (
            f"{address} may evict keys when its memory is full (maxmemory-policy {one_line(policy, 40)}), "
            "and the log with them. Set maxmemory-policy noeviction, on the replicas, too; or give Limpet an engine of "
            "its own"
        )
    return None


def _replica(text: str) -> Address | None:
    # slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=0
    fields = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return _address(fields.get("ip"), fields.get("port"))


def _address(host: str | None, port: str | None) -> Address | None:
    number = _number(port, 0)
    if not host or len(host) > 255 or not 0 < number < 65536:
        return None
    return Address(host, number)


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else otherwise


def choose(
    servers: Iterable[Server],
    *,
    named: Address | None = None,
    in_use: Choice,
    silent: bool = False,
    patient: bool = True,
    loyal: bool = True,
    strict: bool = False,
) -> Choice:
    """Choose the primary and the server to read from.

    Args:
        servers: those that answered.
        named: the primary that Sentinel names. Without Sentinel a single primary is taken; of two, the one that was
            promoted from a replica of the other, or else the one in use.
        in_use: the choice before.
        silent: a server did not answer at all. It may live, and may be promoted.
        patient: a replica that was read from and cannot be now gets some more time.
        loyal: so does a primary that is silent, before one that does not follow from it.
        strict: never read from the primary.
    """
    known = list({server.run_id: server for server in reversed(list(servers))}.values())[::-1]
    primary, problem, lasting = _primary(known, named, in_use, waits=silent and loyal)
    if primary is None:
        return Choice(None, None, problem, lasting)
    if primary.refusal is not None:
        return Choice(None, None, primary.refusal, True)
    choice = _with_source(known, primary, named, in_use, silent=silent, patient=patient, strict=strict)
    if problem is None:
        return choice
    return replace(choice, problem=problem if choice.problem is None else f"{problem}; {choice.problem}")


def _with_source(
    known: Sequence[Server],
    primary: Server,
    named: Address | None,
    in_use: Choice,
    *,
    silent: bool,
    patient: bool,
    strict: bool,
) -> Choice:
    followers = [each for each in known if not each.is_primary and each.history == primary.history]
    ready = [each for each in followers if each.link_up and each.priority > 0 and each.refusal is None]
    if ready:
        # The one that Sentinel would promote; all nodes choose alike.
        source = min(ready, key=lambda each: (each.priority, each.run_id))
        problem = None
        if len(ready) > 1:
            problem = (
                f"several replicas may be promoted ({', '.join(str(each.address) for each in ready)}), and only "
                f"{source.address} is read from: entries may be lost if another one becomes primary. "
                "Set replica-priority 0 on all but one"
            )
        return Choice(primary, source, problem)
    refused = next((each.refusal for each in followers if each.refusal is not None), None)
    if refused is not None:
        return Choice(primary, None if strict else primary, refused)
    if patient and _may_come_back(known, primary, in_use, silent):
        return Choice(primary, None, f"the replica of {primary.address} is cut off from it or does not answer; waiting")
    what = f"{primary.address} has no replica that follows it and may be promoted. What is read may be lost with it"
    # Sentinel makes an old primary a replica by itself.
    replaced = [each.address for each in known if each.is_primary and each.history == primary.history_before]
    more = "".join(
        f"; {each} says that it is a primary, too: make it a replica of {primary.address} (REPLICAOF)"
        for each in (replaced if named is None else ())
    )
    if strict:
        return Choice(
            primary, None, f"{what}. Nothing is read, since --strict demands a replica. Start a replica{more}"
        )
    return Choice(primary, primary, f"{what}. Start a replica (replica-priority above 0){more}")


def _may_come_back(known: Sequence[Server], primary: Server, in_use: Choice, silent: bool) -> bool:
    """Return whether a replica was read from that may be about to be promoted.

    While a primary is cut off from its replica, nothing may be read from the primary: what it stores is lost when the
    replica is promoted.
    """
    if in_use.source is None or in_use.degraded:
        return False
    here = next((each for each in known if in_use.source.run_id == each.run_id), None)
    return silent if here is None else not here.is_primary and here is not primary


def _follows(one: Server, before: Server) -> bool:
    """Return whether a primary has what another one had, as far as it is known: it is the same, or its replica was."""
    same = one.run_id == before.run_id or one.address == before.address
    return same or before.history in (one.history, one.history_before)


def _primary(
    known: Sequence[Server], named: Address | None, in_use: Choice, *, waits: bool
) -> tuple[Server | None, str | None, bool]:
    primaries = [each for each in known if each.is_primary]
    if named is not None:
        found = next((each for each in primaries if each.address == named), None)
        if found is not None:
            return found, None, False
        return None, f"{named} is the primary for Sentinel, and does not answer, or not as primary; waiting", False
    # A replica that was promoted carries on the history of the primary before it.
    replaced = {each.history_before for each in primaries}
    heirs = [each for each in primaries if each.history not in replaced]
    before = in_use.primary
    if len(heirs) == 1:
        if waits and before is not None and not _follows(heirs[0], before):
            # It may be an old one that was started again. With it all would be lost that was written since.
            text = f"{before.address} does not answer. {heirs[0].address} says that it is the primary"
            return None, f"{text}, and does not follow from it; waiting", False
        return heirs[0], None, False
    if not heirs:
        return None, "no primary answers. Start it, or promote its replica (REPLICAOF NO ONE)", False
    kept = next((each for each in heirs if before is not None and each.run_id == before.run_id), None)
    names = ", ".join(str(each.address) for each in heirs)
    text = (
        f"several servers say that they are the primary ({names}), and none follows from the other. "
        "Make all but one a replica (REPLICAOF), or use Sentinel"
    )
    if kept is not None:
        return kept, f"{text}. {kept.address} is used on, and no node can start", False
    return None, text, True
