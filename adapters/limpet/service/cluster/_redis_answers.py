"""What an engine that says no means by it, and what to do about it."""

from __future__ import annotations

from typing import Final, NamedTuple

from limpet.service.cluster._redis_url import Address
from limpet_core.redaction import Secrets
from limpet_core.text import one_line

_QUOTED: Final = 200
"""Characters of an engine's own text that are shown."""


class AnswerError(Exception):
    """An engine's answer that is an error.

    Attributes:
        code: its first word, such as ``OOM``.
        lasting: whether it stays the same until somebody changes a setting.
    """

    def __init__(self, code: str, text: str, lasting: bool) -> None:
        super().__init__(text)
        self.code = code
        self.lasting = lasting


class ConnectionLost(Exception):
    """A connection ended, so that no answer comes.

    Attributes:
        was_silent: whether the server said nothing at all, so that it may live.
    """

    def __init__(self, text: str, *, was_silent: bool = False) -> None:
        super().__init__(text)
        self.was_silent = was_silent


class _Meaning(NamedTuple):
    lasting: bool
    text: str


_MEANINGS: Final = {
    "OOM": _Meaning(
        False,
        "its memory is full (maxmemory). Nothing can be appended; entries wait and are appended again. "
        "Give it more memory, or remove other data from it",
    ),
    "READONLY": _Meaning(
        False,
        "it is a replica now, and not the primary. The new primary is being looked for; "
        "entries wait and are appended again",
    ),
    "LOADING": _Meaning(False, "it is still reading its data from the disk. Wait until it is done"),
    "MASTERDOWN": _Meaning(
        False,
        "it is a replica without its primary, and set not to answer then (replica-serve-stale-data no). "
        "Wait for the primary, or promote this replica",
    ),
    "MISCONF": _Meaning(
        False,
        "it cannot write its data to the disk, and takes no writes until it can. "
        "Look at its log and at the space on its disk",
    ),
    "NOREPLICAS": _Meaning(
        False,
        "it has fewer replicas than min-replicas-to-write demands. Nothing can be appended; entries wait. "
        "Start its replica",
    ),
    "BUSY": _Meaning(False, "it runs a script of somebody else and answers nothing else. End the script (SCRIPT KILL)"),
    "UNBLOCKED": _Meaning(False, "its role has changed. The new primary is being looked for"),
    "NOAUTH": _Meaning(True, "it wants a password. Write it into the URL: redis://:password@host, or user:password"),
    "WRONGPASS": _Meaning(True, "user or password are wrong. Correct them in the URL; write / as %2F, @ as %40"),
    "NOPERM": _Meaning(
        True,
        "this user may not do that. Its ACL needs the keys {limpet:*, and +info +ping +xadd +xread +xrange +xrevrange "
        "+xtrim +get +set +unlink +expire +persist +watch +unwatch +multi +exec +select",
    ),
    "MOVED": _Meaning(
        True,
        "it is a node of a Redis Cluster that does not hold this key. Limpet follows no redirections: "
        "use an engine without cluster mode, with a replica and Sentinel",
    ),
    "ASK": _Meaning(
        True,
        "it is a node of a Redis Cluster that moves this key. Limpet follows no redirections: "
        "use an engine without cluster mode, with a replica and Sentinel",
    ),
    "CLUSTERDOWN": _Meaning(
        True,
        "it is a node of a Redis Cluster that does not serve. Use an engine without cluster mode, with a replica and "
        "Sentinel",
    ),
    "WRONGTYPE": _Meaning(
        True,
        "other data are stored under the names that the log needs ({limpet:...}). "
        "Use another database (the number at the end of the URL), or remove these keys",
    ),
    "DENIED": _Meaning(
        True,
        "it is in protected mode and takes connections of its own machine only. Give it a password (requirepass) "
        "and an address (bind)",
    ),
}
_OTHER: Final = _Meaning(False, "Limpet does not know this answer. Look it up in the engine's manual and its log")


def explain(answer: str, address: Address, secrets: Secrets) -> AnswerError:
    """Return the error of an answer: what the engine said, what it means, what to do. It holds no secret."""
    code = answer.partition(" ")[0]
    meaning = _MEANINGS.get(code, _OTHER)
    if answer.startswith("ERR AUTH") or answer.startswith("ERR Client sent AUTH"):
        meaning = _Meaning(True, "it has no password, but the URL has one. Take it out of the URL, or set requirepass")
    elif answer.startswith("ERR DB index"):
        meaning = _Meaning(True, "it has no database of this number. Correct the number at the end of the URL")
    elif answer.startswith(("ERR unknown command 'SENTINEL'", "ERR unknown command `SENTINEL`")):
        text = (
            "it is no sentinel. Give the addresses of the sentinels, whose port is mostly 26379, or begin with redis://"
        )
        meaning = _Meaning(True, text)
    elif answer.startswith("ERR unknown command"):
        meaning = _Meaning(True, "it is too old, or the command is renamed. Limpet needs Redis 6.2 or newer, or Valkey")
    said = one_line(answer, _QUOTED, secrets)
    return AnswerError(code, f"{address} answers {said!r}: {meaning.text}", meaning.lasting)
