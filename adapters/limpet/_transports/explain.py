"""Error texts: why no connection could be made."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from typing import cast

from limpet import ConnectError, Proxy
from limpet_core.text import reason_of

# OpenSSL's codes for a chain that ends at nobody whom the client trusts (x509_vfy.h, 18 to 21): a certificate or an
# authority that signed itself, an issuer that is unknown, a chain of one whose issuer is.
_UNKNOWN_AUTHORITY = range(18, 22)


def explain(error: BaseException, proxy: Proxy | None = None) -> ConnectError:
    """Return an error whose text says why no connection could be made.

    Args:
        error: what happened.
        proxy: given if it happened between the client and this proxy, and not with the service behind it.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the certificate was not accepted (certificate verify failed: {error.verify_message})"
        if error.verify_code in _UNKNOWN_AUTHORITY:
            reason += "; give the certificate of an authority that you trust as ssl=, or in SSL_CERT_FILE"
    elif isinstance(error, ssl.SSLError):
        reason = f"TLS failed: {error.reason or error}"
        if error.reason == "WRONG_VERSION_NUMBER":
            plain = "http" if proxy else "ws"
            reason += f"; the answer is not TLS (without TLS, the URL starts with {plain}://)"
    else:
        reason = "; ".join(_reasons(error))
    explained = ConnectError(f"the proxy {proxy.host} port {proxy.port}: {reason}" if proxy else reason)
    explained.__cause__ = error
    return explained


def _reasons(error: BaseException) -> list[str]:
    """Return the reason of each address that was tried: trio and anyio say only that all have failed."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        # The reason is often the same for both addresses of a name.
        return list(dict.fromkeys(reason for one in group.exceptions for reason in _reasons(one)))
    if isinstance(error, OSError) and error.errno is None and error.__cause__ is not None:
        return _reasons(error.__cause__)
    text = reason_of(error)
    if isinstance(error, OSError) and text.startswith("Multiple exceptions: "):
        # Before Python 3.12 asyncio puts the reasons of all addresses into one text.
        return list(dict.fromkeys(os.strerror(int(number)) for number in re.findall(r"\[Errno (\d+)\]", text)))
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        # Every event loop has its own words for it, and repeats the address in them.
        known = error.errno in errno.errorcode and not isinstance(error, socket.gaierror)
        return [os.strerror(error.errno) if known else error.strerror or text]
    return [text]
