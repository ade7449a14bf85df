"""Names of hubs, groups, events and subprotocols, and the rules for them."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "JSON",
    "MAX_GROUP_LENGTH",
    "MAX_METADATA_KEY",
    "MAX_METADATA_SIZE",
    "MAX_METADATA_VALUE",
    "PROTOBUF",
    "PROTOBUF_SUBPROTOCOLS",
    "RELIABLE_JSON",
    "RELIABLE_PROTOBUF",
    "RELIABLE_SUBPROTOCOLS",
    "SUBPROTOCOLS",
    "has_group_length",
    "hub_identity",
    "is_event_name",
    "is_group_name",
    "is_hub_name",
    "is_metadata_key",
    "is_metadata_value",
    "is_text",
]

JSON: Final = "json.webpubsub.azure.v1"
"""The plain JSON subprotocol: no recovery, no sequence ids."""

RELIABLE_JSON: Final = "json.reliable.webpubsub.azure.v1"
"""The reliable JSON subprotocol: recovery, sequence ids and acknowledgements."""

PROTOBUF: Final = "protobuf.webpubsub.azure.v1"
"""The plain protobuf subprotocol, of binary frames: no recovery, no sequence ids."""

RELIABLE_PROTOBUF: Final = "protobuf.reliable.webpubsub.azure.v1"
"""The reliable protobuf subprotocol, of binary frames: recovery, sequence ids and acknowledgements."""

PROTOBUF_SUBPROTOCOLS: Final = (RELIABLE_PROTOBUF, PROTOBUF)
"""The subprotocols of binary frames; both ends need the package ``protobuf`` for them."""

RELIABLE_SUBPROTOCOLS: Final = (RELIABLE_JSON, RELIABLE_PROTOBUF)
"""The subprotocols that have recovery and sequence ids."""

SUBPROTOCOLS: Final = (RELIABLE_JSON, JSON, RELIABLE_PROTOBUF, PROTOBUF)
"""The subprotocols that both ends speak, the preferred one first."""

MAX_GROUP_LENGTH: Final = 1024

MAX_METADATA_KEY: Final = 256
"""Characters of a name in metadata (emulator)."""

MAX_METADATA_VALUE: Final = 1024
"""Characters of a value in metadata (emulator)."""

MAX_METADATA_SIZE: Final = 8192
"""Characters of all names and values in the metadata of one message (emulator)."""

_HUB = re.compile(r"[A-Za-z][A-Za-z0-9_`,.\[\]]{0,127}")
_EVENT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def is_hub_name(name: str) -> bool:
    """Return whether ``name`` is a legal hub name: a letter, then at most 127 more characters (openapi)."""
    return _HUB.fullmatch(name) is not None


def hub_identity(name: str) -> str:
    """Return the key under which a hub is looked up: hub names are case-insensitive (emulator)."""
    return name.lower()


def is_group_name(name: str) -> bool:
    """Return whether ``name`` is a legal group name: 1 to 1024 characters, not all white space (openapi)."""
    return bool(name) and not name.isspace() and has_group_length(name) and is_text(name)


def has_group_length(name: str) -> bool:
    """Return whether ``name`` is short enough for a group, in UTF-16 units: one beyond the basic plane counts twice."""
    if len(name) <= MAX_GROUP_LENGTH // 2:
        return True
    return len(name) <= MAX_GROUP_LENGTH and len(name.encode("utf-16-le", "replace")) <= 2 * MAX_GROUP_LENGTH


def is_text(text: str) -> bool:
    """Return whether ``text`` can be sent: it holds no half of a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def is_event_name(name: str) -> bool:
    """Return whether ``name`` is a legal name of a client event (emulator)."""
    return _EVENT.fullmatch(name) is not None


def is_metadata_key(name: str) -> bool:
    """Return whether ``name`` can name metadata: an HTTP token (RFC 9110 5.6.2) of at most 256 characters."""
    return len(name) <= MAX_METADATA_KEY and _TOKEN.fullmatch(name) is not None


def is_metadata_value(value: str) -> bool:
    """Return whether ``value`` can be a value in metadata: at most 1024 characters of ASCII."""
    return value.isascii() and len(value) <= MAX_METADATA_VALUE
