"""The choice of a subprotocol among the offers of a client."""

from __future__ import annotations

from collections.abc import Sequence

from limpet_core.service.wire.codecs import is_spoken


def select_subprotocol(offered: Sequence[str]) -> tuple[str, str] | None:
    """Return the first offer that the service speaks, in the client's order; names are case-insensitive (emulator).

    Returns:
        The canonical name and the client's own spelling, which the handshake has to echo; ``None`` if nothing fits.
    """
    for offer in offered:
        name = offer.lower()
        if is_spoken(name):
            return name, offer
    return None


def choose_subprotocol(offered: Sequence[str], chosen: str | None) -> tuple[str | None, str | None]:
    """Return the subprotocol that an event handler has ``chosen`` among the offers, or else the first known one.

    Any offer can be chosen; with an unknown one the client is a raw client (Azure docs).

    Returns:
        The name, canonical if it is known, and the client's own spelling; ``None`` twice without a subprotocol.
    """
    if not chosen:
        return select_subprotocol(offered) or (None, None)
    spelled = next(offer for offer in offered if offer.lower() == chosen.lower())
    return (spelled.lower() if is_spoken(spelled.lower()) else spelled), spelled
