"""Decoding of text in the charset that a peer names."""

from __future__ import annotations

import codecs
import re
from typing import Final

# Charsets of text (whatwg.org, encoding) by Python's names. Python's other codecs may be very slow, warn, or return
# something other than text.
_CHARSETS: Final = re.compile(
    r"utf-(8|16|32)(-le|-be)?|ascii|iso8859-1?\d|cp125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|shift_jis|euc_jp|euc_kr"
)


def decode_text(body: bytes, charset: str) -> str:
    """Decode a body.

    Raises:
        LookupError: for a charset that is not supported.
        UnicodeDecodeError: for bytes that are not text in the charset.
    """
    try:
        codec = codecs.lookup(charset).name
    except (LookupError, ValueError):
        codec = ""
    if _CHARSETS.fullmatch(codec) is None:
        raise LookupError("the charset is not supported")
    return body.decode(codec)
