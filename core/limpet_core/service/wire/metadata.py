"""Metadata: pairs of text that travel with a message (emulator)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

__all__ = ["HEADER_PREFIX", "InvalidMetadata", "encode_metadata", "metadata_from_headers"]

_KEY = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_MAX_VALUE: Final = 1024
_MAX_TOTAL: Final = 8192

HEADER_PREFIX: Final = "x-webpubsub-metadata-"
"""What the names of headers with metadata begin with, before the key."""


class InvalidMetadata(ValueError):
    """The metadata is not allowed; the message says why."""


def encode_metadata(pairs: Iterable[tuple[str, object]]) -> bytes:
    """Return metadata as a JSON object, ready for a `Publication`; empty if there are no pairs.

    A key is a token of HTTP of at most 256 characters, a value ASCII text of at most 1024; all of them have
    at most 8192. Raises `InvalidMetadata` for anything else and for a repeated key.
    """
    metadata: dict[str, str] = {}
    total = 0
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise InvalidMetadata("invalid metadata key")
        if key in metadata:
            raise InvalidMetadata("repeated metadata key")
        if not isinstance(value, str) or not value.isascii() or len(value) > _MAX_VALUE:
            raise InvalidMetadata(f"metadata values must be ASCII strings of at most {_MAX_VALUE} bytes")
        metadata[key] = value
        total += len(key) + len(value)
    if total > _MAX_TOTAL:
        raise InvalidMetadata(f"metadata is larger than {_MAX_TOTAL} bytes")
    return msgspec.json.encode(metadata) if metadata else b""


def metadata_from_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the metadata in ``X-WebPubSub-Metadata-<key>`` headers, encoded as by `encode_metadata`.

    Keys become lower case; of a repeated header the last one counts, and of a list with commas its last
    part (emulator). Raises `InvalidMetadata`.
    """
    metadata: dict[str, object] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered.startswith(HEADER_PREFIX):
            metadata[lowered[len(HEADER_PREFIX) :]] = value.rpartition(",")[2].strip()
    return encode_metadata(metadata.items())
