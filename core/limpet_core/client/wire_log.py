"""The log ``limpet.frames``: the messages of a connection, at level DEBUG and without tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, cast

from limpet_core.client.log_lines import LogLines, frames_log
from limpet_core.protocol.codec import Codec
from limpet_core.redaction import HIDDEN, Secrets
from limpet_core.text import one_line

_LONGEST: Final = 1000


def log_messages(lines: LogLines, direction: str, messages: Iterable[bytes], secrets: Secrets, codec: Codec) -> None:
    """Log ``messages`` that were received (``direction`` is ``<``) or are sent (``>``)."""
    for message in messages:
        text = codec.show(message, received=direction == "<")
        if direction == "<" and not codec.binary and _may_hold_a_token(text):
            text = _without_token(text, secrets)
        lines.debug("%s %s", direction, one_line(text, _LONGEST, secrets), to=frames_log)


def _may_hold_a_token(text: str) -> bool:
    # The name of a field may be in any case, and its letters may be escaped.
    return "token" in text.lower() or "\\u" in text


def _without_token(text: str, secrets: Secrets) -> str:
    # By field, in the decoded message: the service may write a token with any escapes.
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        return f"a message of {len(text)} characters that cannot be read and may hold a token"
    if not isinstance(fields, dict):
        return text
    shown = dict(cast("dict[str, Any]", fields))
    tokens = [name for name in shown if "token" in name.lower()]
    for name in tokens:
        if isinstance(value := shown[name], str):
            secrets.learn(value)
        shown[name] = HIDDEN
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")) if tokens else text
