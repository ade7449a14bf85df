"""Messages on the wire in the log ``holdfast.frames``, at level DEBUG and without tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from holdfast_core.url import redact

frames: logging.Logger = logging.getLogger("holdfast.frames")

_LONGEST: Final = 1000


def trace(direction: str, messages: Iterable[bytes]) -> None:
    """Log ``messages``, which went in ``direction`` (``<`` came, ``>`` goes)."""
    for message in messages:
        # Redact before shortening: half a token is still a secret.
        text = redact(message.decode("utf-8", "replace"))
        cut = f"... ({len(text)} characters)" if len(text) > _LONGEST else ""
        frames.debug("%s %s%s", direction, text[:_LONGEST], cut)
