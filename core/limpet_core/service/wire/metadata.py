"""Metadata: names and values that accompany a message (emulator)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from limpet_core.protocol.names import MAX_METADATA_SIZE, MAX_METADATA_VALUE, is_metadata_key, is_metadata_value

HEADER_PREFIX: Final = "x-webpubsub-metadata-"
"""The prefix of the names of headers with metadata."""


class InvalidMetadata(ValueError):
    """The metadata is not allowed; the message says why."""


def encode_metadata(pairs: Iterable[tuple[str, object]]) -> bytes:
    """Return metadata as a JSON object for a :class:`Publication`; empty if there are no pairs.

    A key is an HTTP token of at most 256 characters, a value is ASCII text of at most 1024 characters; all together
    have at most 8192 characters.

    Raises:
        InvalidMetadata: for anything else and for a repeated key.
    """
    metadata: dict[str, str] = {}
    total = 0
    for key, value in pairs:
        if not is_metadata_key(key):
            raise InvalidMetadata("invalid metadata key")
        if key in metadata:
            raise InvalidMetadata("repeated metadata key")
        if not isinstance(value, str) or not is_metadata_value(value):
            raise InvalidMetadata(f"metadata values must be ASCII strings of at most {MAX_METADATA_VALUE} bytes")
        metadata[key] = value
        total += len(key) + len(value)
    if total > MAX_METADATA_SIZE:
        raise InvalidMetadata(f"metadata is larger than {MAX_METADATA_SIZE} bytes")
    return msgspec.json.encode(metadata) if metadata else b""


def metadata_from_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the metadata of ``X-WebPubSub-Metadata-<key>`` headers, encoded as by :func:`encode_metadata`.

    Keys become lower case. The last of repeated headers counts, and the last part of a list with commas (emulator).

    Raises:
        InvalidMetadata: as :func:`encode_metadata` does.
    """
    metadata: dict[str, object] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered.startswith(HEADER_PREFIX):
            metadata[lowered[len(HEADER_PREFIX) :]] = value.rpartition(",")[2].strip()
    return encode_metadata(metadata.items())
