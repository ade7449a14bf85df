"""Text in the charsets of others."""

from __future__ import annotations

import codecs
import re
from typing import Final

__all__ = ["decode_text"]

# Charsets of text (whatwg.org, encoding), as Python calls them. Its other codecs may take very long, warn, or make
# something else than text.
_CHARSETS: Final = re.compile(
    r"utf-(8|16|32)(-le|-be)?|ascii|iso8859-1?\d|cp125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|shift_jis|euc_jp|euc_kr"
)


def decode_text(body: bytes, charset: str) -> str:
    """Decode a body; raises `LookupError` for a charset that is not supported, `UnicodeDecodeError` for bad bytes."""
    try:
        codec = codecs.lookup(charset).name
    except (LookupError, ValueError):
        codec = ""
    if _CHARSETS.fullmatch(codec) is None:
        raise LookupError("the charset is not supported")
    return body.decode(codec)
