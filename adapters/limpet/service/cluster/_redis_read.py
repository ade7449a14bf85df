"""Reading of the log, page by page, with the proof that nothing is missing before a page."""

from __future__ import annotations

from typing import Any, Final

from limpet.service.cluster._redis_connection import PAGE, Connection, is_list
from limpet.service.cluster.log import START, LogEntry, LogId

BLOCK: Final = 1.0
"""Seconds that a server waits for entries before it answers that there are none."""

_FIELD: Final = b"e"


class Malformed(Exception):
    """An answer is not of the form that its command has."""


class Page:
    """Entries that follow a position.

    Attributes:
        last: the id of the last entry, of Limpet or not; the position if there is none.
        proven: whether the position was still in the log when they were read, so that none is missing before them.
        foreign: how many entries of others were left out.
    """

    __slots__ = ("entries", "foreign", "last", "proven")

    def __init__(self, entries: list[LogEntry], last: LogId, proven: bool, foreign: int) -> None:
        self.entries = entries
        self.last = last
        self.proven = proven
        self.foreign = foreign


async def read_page(connection: Connection, log: str, pointer: str, position: LogId, data: bytes | None) -> Page:
    """Read what follows a position.

    Args:
        log: the key of the log.
        pointer: the key of the newest snapshot's name.
        position: the entry read last.
        data: the bytes of this entry, if they are known.

    Raises:
        Malformed: an answer is not one of these commands.
        AnswerError: the server refuses to answer.
        ConnectionLost: no answer comes.
    """
    command = ("XREAD", "COUNT", PAGE, "BLOCK", int(1000 * BLOCK), "STREAMS", log, str(position))
    news = connection.ask(*command)
    # After the entries: what is still in the log then was in it when they were read, for it loses its beginning only.
    # Without this proof entries may be missing, if the log was trimmed or replaced before the server read it.
    if position == START:
        proof = connection.ask("GET", pointer)
    else:
        proof = connection.ask("XRANGE", log, str(position), str(position), "COUNT", 1)
    answer, found = await news, await proof
    proven = found is None if position == START else is_entry(found, position, data)
    entries, last, foreign = _entries(answer, position)
    return Page(entries, last, proven, foreign)


def is_entry(answer: Any, entry: LogId, data: bytes | None) -> bool:
    """Return whether the answer to XRANGE is one entry of this id and, if they are known, of these bytes.

    Raises:
        Malformed: the answer is not one to XRANGE.
    """
    if data is not None and answer == [[b"%d-%d" % entry, [_FIELD, data]]]:
        return True  # nearly always: all else is looked at more closely
    if not is_list(answer):
        raise Malformed("an answer to XRANGE that is no list")
    entries, last, _ = _parsed(answer, START)
    return last == entry and (data is None or (bool(entries) and entries[-1].data == data))


def newest_id(answer: Any) -> LogId:
    """Return the id in the answer to XREVRANGE, or START.

    Raises:
        Malformed: the answer is not one to XREVRANGE.
    """
    if not is_list(answer):
        raise Malformed("an answer to XREVRANGE that is no list")
    return _parsed(answer, START)[1]


def _entries(answer: Any, position: LogId) -> tuple[list[LogEntry], LogId, int]:
    if answer is None:
        return [], position, 0
    try:
        ((_, rows),) = answer
    except (TypeError, ValueError):
        raise Malformed("an answer to XREAD that is not of one stream") from None
    return _parsed(rows, position)


def _parsed(rows: Any, position: LogId) -> tuple[list[LogEntry], LogId, int]:
    entries: list[LogEntry] = []
    foreign = 0
    try:
        for raw, fields in rows:
            if len(raw) > 41:
                raise Malformed("an id that is too long")
            milliseconds, _, number = raw.partition(b"-")
            entry = LogId(int(milliseconds), int(number))
            if entry <= position:
                raise Malformed("ids that are not in order")
            position = entry
            # Others may have written here: all nodes leave that out.
            if len(fields) == 2 and fields[0] == _FIELD and type(fields[1]) is bytes:
                entries.append(LogEntry(entry, entry.milliseconds, fields[1]))
            else:
                foreign += 1
    except (TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"a list of entries that is none ({type(error).__name__})") from None
    return entries, position, foreign
