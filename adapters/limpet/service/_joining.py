"""What a node needs to join its cluster: the log, and a digest of the options that all nodes share."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from limpet._extras import extra
from limpet.service.cluster import Log, OnCongested
from limpet.service.options import ClusterOptions, ServiceOptions


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


def settings_digest(options: ServiceOptions) -> bytes:
    """Return a digest of the options that must be the same at all nodes of a cluster."""
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
