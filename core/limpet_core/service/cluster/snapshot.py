"""The state of a cluster as bytes: a snapshot, which a new node begins with, and a digest, which nodes compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from limpet_core.service.cluster import records
from limpet_core.service.cluster.restoring import Restoring, restore_nodes
from limpet_core.service.cluster.saving import Saving
from limpet_core.service.cluster.shared_state import SharedState

MAX_SNAPSHOT: Final = 2**31
"""Bytes of a snapshot that is read, at most. A log may keep smaller ones alone."""


class UnreadableSnapshot(ValueError):
    """A snapshot is damaged, or of another release; the message says which."""


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    format: int
    pieces: msgspec.Raw


_encode = msgspec.msgpack.Encoder().encode
_envelope_decoder = msgspec.msgpack.Decoder(_Envelope)
_pieces_decoder = msgspec.msgpack.Decoder(records.Pieces)
_connections_decoder = msgspec.msgpack.Decoder(list[records.SavedConnection])
_publications_decoder = msgspec.msgpack.Decoder(list[records.SavedPublication])
_state_decoder = msgspec.msgpack.Decoder(records.SavedState)


def snapshot(shared: SharedState) -> bytes:
    """Return the whole state, between two entries of the log: see :func:`restore`."""
    saving = Saving(shared)
    connections, publications = list(saving.connections()), list(saving.publications())
    state = saving.state()
    summary = _digest(chain((shared.settings,), connections, publications, (state,)))
    return _encode((records.FORMAT, records.Pieces(shared.settings, summary, connections, publications, state)))


def restore(shared: SharedState, data: bytes) -> None:
    """Give a new shared state, of a new core, the state of a snapshot. All attachments are those of other nodes.

    Go on with the entries of the log behind :attr:`SharedState.position`. Nobody is told of anything. Of a cluster with
    other settings only the nodes are restored, see :class:`SharedState`.

    Raises:
        UnreadableSnapshot: if the bytes are no snapshot for this node. The shared state is unchanged.
        ValueError: if the shared state is not a new one.
    """
    if shared.position or shared.core.connection_count:
        raise ValueError("a snapshot is the beginning of a new node")
    if len(data) > MAX_SNAPSHOT:
        raise UnreadableSnapshot(f"it has {len(data)} bytes, and this release reads at most {MAX_SNAPSHOT}")
    try:
        pieces = _pieces(data)
        state = _state_decoder.decode(pieces.state)
        if pieces.settings != shared.settings:
            restore_nodes(shared, state)
            shared.settings, shared.is_foreign = pieces.settings, True
            return
        restoring = Restoring(
            shared,
            chain.from_iterable(map(_connections_decoder.decode, pieces.connections)),
            chain.from_iterable(map(_publications_decoder.decode, pieces.publications)),
            state,
        )
    except UnreadableSnapshot:
        raise
    except (msgspec.DecodeError, LookupError, ValueError, RecursionError) as error:
        raise UnreadableSnapshot(f"it is damaged: {error!r}") from None
    restoring.install()


def digest(shared: SharedState) -> bytes:
    """Return a digest of the state: two nodes that have applied the same entries have the same one."""
    return _digest(_one_by_one(Saving(shared)))


def _one_by_one(saving: Saving) -> Iterator[bytes]:
    """Make the pieces one after the other: each is dropped when it is summed up."""
    yield from saving.connections()
    yield from saving.publications()
    yield saving.state()


def _pieces(data: bytes) -> records.Pieces:
    envelope = _envelope_decoder.decode(data)
    if envelope.format != records.FORMAT:
        raise UnreadableSnapshot(f"it has format {envelope.format}, and this release reads format {records.FORMAT}")
    pieces = _pieces_decoder.decode(envelope.pieces)
    every = chain((pieces.settings,), pieces.connections, pieces.publications, (pieces.state,))
    if _digest(every) != pieces.digest:
        raise UnreadableSnapshot("it is damaged: its digest is another one")
    return pieces


def _digest(pieces: Iterable[bytes]) -> bytes:
    summary = hashlib.sha256()
    for piece in pieces:
        # With its length, so that no bytes move from one to the next.
        summary.update(b"%d:" % len(piece))
        summary.update(piece)
    return summary.digest()
