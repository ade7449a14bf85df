"""What a node needs to join its cluster: the log, the state so far, and a digest of the options that all share."""

from __future__ import annotations

import gc
import hashlib
import hmac
from typing import Final

import msgspec

from limpet._extras import extra
from limpet.service.cluster import Log, OnCongested, Snapshot
from limpet.service.options import ClusterOptions, ServiceOptions
from limpet_core.service.cluster.members import ABANDONED
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.snapshot import UnreadableSnapshot

WAITS: Final = (
    "the settings of this node (limits, access keys, event handlers) are not those of the cluster, and not all of its "
    f"nodes have said that they leave: this node waits whether one still lives, for {ABANDONED:.0f} s at most"
)
"""What a node says that begins where others may have died."""


class ClusterRefused(Exception):
    """A cluster does not take a node in, or goes on without it; the text says why."""


async def open_log(cluster: ClusterOptions, on_congested: OnCongested) -> Log:
    """Open the log of a cluster.

    Raises:
        LogError: if it cannot be used.
        MissingExtra: without the extra ``cluster``.
    """
    if cluster.open_log is not None:
        return await cluster.open_log(on_congested)
    with extra("cluster"):
        from limpet.service.cluster.redis import RedisLog
    return await RedisLog.open(cluster.url, cell=cluster.cell, strict=cluster.strict, on_congested=on_congested)


def restore(replica: Replica, snapshot: Snapshot) -> None:
    """Begin with a snapshot of the cluster.

    Raises:
        ClusterRefused: if it is none for this node.
    """
    collects = gc.isenabled()
    gc.disable()  # a snapshot has many objects and no garbage, which would be looked for again and again
    try:
        replica.restore(snapshot.data)
    except UnreadableSnapshot as error:
        raise ClusterRefused(f"the snapshot of the cluster cannot be used: {error}") from None
    finally:
        if collects:
            gc.enable()


def settings_digest(options: ServiceOptions) -> bytes:
    """Return a digest of the options that must be the same at all nodes of a cluster.

    A release that adds an option leaves it out here while it has its default: else its nodes and those of the release
    before refuse each other, and it could not be rolled out node by node. A default that changes must stay in the
    digest: nodes with different limits would come to different states.
    """
    shared = (
        options.limits(),
        options.access_key,
        options.secondary_access_key,
        sorted(
            (
                hub.lower(),
                [msgspec.structs.asdict(handler) for handler in special.event_handlers],
                [msgspec.structs.asdict(listener) for listener in special.event_listeners],
            )
            for hub, special in options.hubs.items()
        ),
    )
    key = (options.access_key or "").encode()
    return hmac.digest(key, msgspec.json.encode(shared), hashlib.sha256)
