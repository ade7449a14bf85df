"""Names a client may use: hubs, groups, events, subprotocols."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = [
    "JSON",
    "MAX_GROUP_LENGTH",
    "RELIABLE_JSON",
    "SUBPROTOCOLS",
    "choose_subprotocol",
    "has_group_length",
    "hub_identity",
    "is_event_name",
    "is_group_name",
    "is_hub_name",
    "is_text",
    "select_subprotocol",
]

JSON: Final = "json.webpubsub.azure.v1"
"""The plain JSON subprotocol: no recovery, no sequence ids."""

RELIABLE_JSON: Final = "json.reliable.webpubsub.azure.v1"
"""The reliable JSON subprotocol: recovery, sequence ids and acknowledgements."""

SUBPROTOCOLS: Final = (RELIABLE_JSON, JSON)
"""The subprotocols of this service."""

MAX_GROUP_LENGTH: Final = 1024

_HUB = re.compile(r"[A-Za-z][A-Za-z0-9_`,.\[\]]{0,127}")
_EVENT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")


def is_hub_name(name: str) -> bool:
    """Tell whether ``name`` is a legal hub name: a letter, then at most 127 more characters (openapi)."""
    return _HUB.fullmatch(name) is not None


def hub_identity(name: str) -> str:
    """Return the key under which a hub is looked up: hub names are case-insensitive (emulator)."""
    return name.lower()


def is_group_name(name: str) -> bool:
    """Tell whether ``name`` is a legal group name: 1 to 1024 characters, not all white space (openapi)."""
    return bool(name) and not name.isspace() and has_group_length(name) and is_text(name)


def has_group_length(name: str) -> bool:
    """Tell whether ``name`` is short enough for a group, in UTF-16 units: one beyond the basic plane counts twice."""
    if len(name) <= MAX_GROUP_LENGTH // 2:
        return True
    return len(name) <= MAX_GROUP_LENGTH and len(name.encode("utf-16-le", "replace")) <= 2 * MAX_GROUP_LENGTH


def is_text(text: str) -> bool:
    """Tell whether ``text`` can be sent: it holds no half of a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def is_event_name(name: str) -> bool:
    """Tell whether ``name`` is a legal name of a client event (emulator)."""
    return _EVENT.fullmatch(name) is not None


def select_subprotocol(offered: list[str]) -> tuple[str, str] | None:
    """Pick the first offer this service speaks, in the client's order; names are case-insensitive (emulator).

    Returns the canonical name and the client's own spelling, which the handshake has to echo;
    ``None`` if nothing fits.
    """
    for offer in offered:
        name = offer.lower()
        if name in SUBPROTOCOLS:
            return name, offer
    return None


def choose_subprotocol(offered: Sequence[str], chosen: str | None) -> tuple[str | None, str | None]:
    """Return the subprotocol that an event handler has ``chosen`` among the offers, or else the first of ours.

    Any offer can be chosen; with one that is not ours the client is a raw one (Azure docs). Returns the name,
    canonical if it is ours, and the client's own spelling; ``None`` twice if there is no subprotocol.
    """
    if not chosen:
        return select_subprotocol(list(offered)) or (None, None)
    spelled = next(offer for offer in offered if offer.lower() == chosen.lower())
    return (spelled.lower() if spelled.lower() in SUBPROTOCOLS else spelled), spelled
