"""Content types, as callers of the data plane and event handlers write them."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# No two parts of a pattern match the same character: a long header takes no long time.
_TYPE: Final = re.compile(rf"({_TOKEN}/{_TOKEN})[ \t]*")
_PARAMETER: Final = re.compile(rf';[ \t]*(?:({_TOKEN})(?:=({_TOKEN}|"(?:[^"\\]|\\.)*")?)?[ \t]*)?')


def read_content_type(text: str) -> tuple[str, str] | None:
    """Return the media type in lower case and the charset, by default utf-8; ``None`` for text that is none.

    A list of content types is none: which one counts is not clear. The first charset counts (emulator).
    """
    text = text.strip(" \t")
    match = _TYPE.match(text)
    if match is None:
        return None
    media_type, charset = match[1].lower(), None
    while match.end() < len(text):
        match = _PARAMETER.match(text, match.end())
        if match is None:
            return None
        name, value = match.groups()
        if charset is None and name is not None and name.lower() == "charset":
            charset = (value or "").strip('"')
    return media_type, "utf-8" if charset is None else charset
