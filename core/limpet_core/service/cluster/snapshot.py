"""The state of a cluster as bytes: its digest."""

from __future__ import annotations

import hashlib

import msgspec

from limpet_core.service.cluster.shared_state import SharedState


def digest(shared: SharedState) -> bytes:
    """Return a digest of the shared state: two nodes that have applied the same entries have the same one."""
    core = shared.core
    parts: list[object] = [
        [(member.node, member.counter, member.seen) for member in shared.members],
        shared.members.gone,
        core.now,
        [
            (
                connection.connection_id,
                connection.user_id,
                list(connection.groups),
                connection.sequence_id,
                connection.retained,
                None if connection.attachment is None else connection.attachment.place,
            )
            for hub in core.hubs
            for connection in hub.connections.values()
        ],
    ]
    return hashlib.sha256(msgspec.msgpack.encode(parts)).digest()
