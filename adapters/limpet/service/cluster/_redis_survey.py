"""Asking all servers that are known what they are; with Sentinel, which one is the primary."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from limpet.service.cluster._redis_answers import AnswerError, ConnectionLost
from limpet.service.cluster._redis_connection import Connection, is_list, silence
from limpet.service.cluster._redis_servers import Server, parse_info
from limpet.service.cluster._redis_url import Address, EngineUrl, Login

_MAX_KNOWN: Final = 32
"""Addresses of servers that are asked; the engine may name more."""


@dataclass(slots=True)
class Findings:
    """What the servers said."""

    servers: list[Server] = field(default_factory=list[Server])
    named: Address | None = None
    """The primary that Sentinel names."""
    sentinel_problem: str | None = None
    """Why Sentinel names none; None without Sentinel."""
    silent: bool = False
    """A server took longer than it may, so that it may live."""
    faults: list[str] = field(default_factory=list[str])
    """Why others said nothing."""
    refusals: list[str] = field(default_factory=list[str])
    """What others said in place of an answer."""
    lasting: bool = False
    """One of these refusals stays until somebody changes a setting."""

    def explained(self, problem: str, *, is_lasting: bool) -> str:
        """Return a problem with its causes: first what a server itself has said.

        Args:
            problem: what is wrong.
            is_lasting: whether the problem stays until somebody changes a setting, so that it is a cause itself.
        """
        if self.lasting and not is_lasting:
            # Whoever is refused does not know whether there is a primary.
            return "; ".join([*self.refusals, *self.faults])
        return "; ".join([*self.refusals, problem, *self.faults])


class Survey:
    """The servers that are known: those of the URL, and those that servers and sentinels name.

    Args:
        url: of the engine.
        timeout: seconds that a server may take to answer.
    """

    def __init__(self, url: EngineUrl, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._known: dict[Address, None] = {}
        if url.sentinel_name is None:
            self._learn(*url.addresses)

    def _learn(self, *addresses: Address) -> None:
        for address in addresses:
            if len(self._known) < _MAX_KNOWN:
                self._known[address] = None

    def _forget(self, findings: Findings) -> None:
        # A primary names its replicas: others that do not answer are gone, and would be waited for each time.
        named = {address for server in findings.servers for address in (server.address, *server.replicas)}
        given = () if self._url.sentinel_name is not None else self._url.addresses
        self._known = {address: None for address in self._known if address in named or address in given}

    async def make(self) -> Findings:
        """Ask all servers at the same time. Takes no longer than three time-outs."""
        findings = Findings()
        if self._url.sentinel_name is not None:
            await self._ask_sentinels(self._url.sentinel_name, findings)
        asked: set[Address] = set()
        for _ in range(2):  # once more, those that the first ones name
            new = [address for address in self._known if address not in asked]
            asked.update(new)
            await asyncio.gather(*(self._ask_server(address, findings) for address in new))
            for server in findings.servers:
                self._learn(*server.replicas, *([server.primary] if server.primary is not None else []))
        if any(server.is_primary for server in findings.servers):
            self._forget(findings)
        order = {address: place for place, address in enumerate(self._known)}
        findings.servers.sort(key=lambda server: order[server.address])
        return findings

    async def _ask_server(self, address: Address, findings: Findings) -> None:
        answers = await self._ask(address, self._url.login, findings, ("INFO",))
        if answers is None:
            return
        text = answers[0]
        server = parse_info(address, text.decode("utf-8", "replace")) if isinstance(text, bytes) else None
        if server is None:
            findings.faults.append(f"{address} is no server that stores data: a sentinel, or no Redis at all")
        else:
            findings.servers.append(server)

    async def _ask_sentinels(self, name: str, findings: Findings) -> None:
        votes: list[tuple[int, int, Address, list[Address]]] = []

        async def ask(place: int, address: Address) -> None:
            commands = (
                ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name),
                ("SENTINEL", "MASTER", name),
                ("SENTINEL", "REPLICAS", name),
            )
            answers = await self._ask(address, self._url.sentinel_login, findings, *commands)
            if answers is not None and (primary := _address_of(answers[0])) is not None:
                replicas = [_named_in(row) for row in answers[2]] if is_list(answers[2]) else []
                found = [each for each in replicas if each is not None]
                votes.append((_epoch_of(answers[1]), -place, primary, found))

        await asyncio.gather(*(ask(place, address) for place, address in enumerate(self._url.addresses)))
        if not votes:
            findings.sentinel_problem = f"no sentinel names a primary {name!r}"
            return
        # A sentinel that was cut off has an older epoch than those that have elected another primary.
        _, _, findings.named, replicas = max(votes)
        self._known = dict.fromkeys([findings.named, *replicas][:_MAX_KNOWN])

    async def _ask(
        self, address: Address, login: Login, findings: Findings, *commands: tuple[str, ...]
    ) -> list[Any] | None:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await Connection.open(address, login, self._timeout)
                return [await each for each in [connection.ask(*command) for command in commands]]
        except TimeoutError:
            findings.silent = True
            findings.faults.append(silence(address, login, self._timeout))
        except AnswerError as error:
            findings.refusals.append(str(error))
            findings.lasting |= error.lasting
        except ConnectionLost as lost:
            findings.silent |= lost.was_silent
            findings.faults.append(str(lost))
        finally:
            if connection is not None:
                connection.abort()
        return None


def _address_of(answer: Any) -> Address | None:
    try:
        host, port = answer
        return Address(host.decode(), int(port)) if 0 < int(port) < 65536 and 0 < len(host) < 256 else None
    except (TypeError, ValueError, AttributeError):
        return None


def _table(answer: Any) -> dict[bytes, bytes]:
    # SENTINEL MASTER answers names and values in turns.
    if not is_list(answer) or not all(type(each) is bytes for each in answer):
        return {}
    return dict(zip(answer[::2], answer[1::2], strict=False))


def _named_in(row: Any) -> Address | None:
    table = _table(row)
    return _address_of((table.get(b"ip"), table.get(b"port")))


def _epoch_of(answer: Any) -> int:
    epoch = _table(answer).get(b"config-epoch", b"")
    return int(epoch) if epoch.isdigit() and len(epoch) < 20 else -1
