"""TLS between a TCP connection and a Link or the like, over bytes: no socket and no event loop."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from limpet import InvalidType, InvalidValue

TlsSetting = ssl.SSLContext | str | Path | None
"""Checks the service's certificate: a context, or the path of a file with the CA certificates to trust instead of the
system's; None: the system's trust store."""

_RECORD = 16 * 1024
"""The largest TLS record: a bigger buffer would be allocated in vain, and copying out of a kept one is slower."""


class Tls:
    """TLS over bytes. All records that have arrived are decrypted at once, before other tasks run.

    Attributes:
        shaken: the handshake is done.
        ended: nothing more can be read.
        fault: the error, if TLS is broken.

    Raises:
        ValueError, OSError: ``context`` cannot be used, or not for ``host``.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.shaken = False
        self.ended = False
        self.fault: ssl.SSLError | None = None
        self._unsent: list[bytes] = []
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Certificates and SNI know no dot at the end of a name.
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.removesuffix("."))
        with suppress(ssl.SSLWantReadError):
            self._object.do_handshake()  # raises for settings that leave no version or cipher

    def decrypt(self, data: bytes) -> bytes:
        if self.ended:
            return b""
        self._incoming.write(data)
        pieces: list[bytes] = []
        try:
            if not self.shaken:
                self._object.do_handshake()
                self.shaken = True
            while piece := self._object.read(_RECORD):
                pieces.append(piece)
                if not self._incoming.pending and not self._object.pending():
                    break  # cheaper than an exception
            else:
                self.ended = True
        except ssl.SSLWantReadError:
            pass  # the rest of a record has not arrived yet
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self.ended = True  # an alert for the peer is left to be sent
            self.fault = error.with_traceback(None)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def encrypt(self, data_to_send: Callable[[], Iterable[bytes]]) -> bytes:
        """Return the bytes to send; ``data_to_send`` is called for more once the handshake is done."""
        if self.shaken and self.fault is None:
            unsent = self._unsent
            unsent += data_to_send()
            try:
                while unsent:
                    self._object.write(unsent[0])
                    del unsent[0]
            except ssl.SSLWantReadError:
                pass  # the peer renegotiates keys: the rest is sent later
            except ssl.SSLError:
                unsent.clear()  # it is closed already
        return self._outgoing.read()

    def close(self) -> bytes:
        self.ended = True  # the peer's answer is not waited for
        with suppress(ssl.SSLError, ValueError):
            self._object.unwrap()
        return self._outgoing.read()


@functools.cache
def system_trust() -> ssl.SSLContext:
    """Return a context that checks certificates against the system's trust store, and host names."""
    return ssl.create_default_context()


def tls_context(tls: object) -> ssl.SSLContext | None:
    if isinstance(tls, ssl.SSLContext) and tls.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise InvalidValue("ssl is a context for servers: make one with ssl.create_default_context()")
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    if not isinstance(tls, str | Path):
        raise InvalidType(f"ssl must be an ssl.SSLContext or the path of a CA file, not {type(tls).__name__}")
    try:
        return ssl.create_default_context(cafile=tls)
    except OSError as error:  # ssl.SSLError is one: a file without a certificate
        raise InvalidValue(f"ssl: the CA file {str(tls)!r} cannot be used: {error}") from None
