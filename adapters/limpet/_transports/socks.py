"""SOCKS5 (RFC 1928, 1929): a tunnel through a proxy, for the bytes of a Link. No IO."""

from __future__ import annotations

from typing import Any, Final

from limpet import ConnectError, InvalidValue, Proxy
from limpet._extras import extra
from limpet_core.text import one_line

with extra("socks"):
    from socksio import (
        SOCKS5AuthMethod,
        SOCKS5AuthMethodsRequest,
        SOCKS5Command,
        SOCKS5CommandRequest,
        SOCKS5Connection,
        SOCKS5UsernamePasswordRequest,
        SOCKSError,
    )

_LONGEST: Final = 255
"""Bytes of a host name, a user or a password."""

_NONE, _PASSWORD, _REFUSED = 0, 2, 255
"""Ways to log in, as numbers of the protocol."""

_REASONS: Final = {
    1: "general failure",
    2: "its rules do not allow it",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "connection refused",
    6: "the time to live is over",
    7: "it does not know the command",
    8: "it does not know the kind of address",
}


class SocksTunnel:
    """A tunnel through a SOCKS5 proxy, which looks the destination's name up; used like :class:`limpet.Tunnel`.

    Raises:
        InvalidValue: the host's name, the user or the password is too long for the protocol.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self.open: bool = False
        self._proxy = proxy
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._user, self._password = (proxy.user or "").encode(), proxy.password.encode()
        for what, text in (("host", host.encode()), ("user", self._user), ("password", self._password)):
            if len(text) > _LONGEST:
                raise InvalidValue(f"{self._name()} cannot be given a {what} of more than {_LONGEST} bytes")
        self._request = SOCKS5CommandRequest.from_address(SOCKS5Command.CONNECT, (host, port))
        self._socks: Any = SOCKS5Connection()  # its send() has no types
        methods = [SOCKS5AuthMethod.NO_AUTH_REQUIRED]
        if proxy.user is not None:
            methods.append(SOCKS5AuthMethod.USERNAME_PASSWORD)
        self._socks.send(SOCKS5AuthMethodsRequest(methods))
        self._received = b""
        self._receive = self._method

    def data_to_send(self) -> bytes:
        """Return the bytes to send next, once."""
        return self._socks.data_to_send()  # type: ignore[no-any-return]

    def receive_data(self, data: bytes) -> bytes:
        """Receive bytes from the proxy; return those that came through the tunnel. Call :meth:`data_to_send` next.

        Raises:
            ConnectError: the proxy refused, or its answer cannot be read.
        """
        if self.open:
            return data
        self._received += data
        try:
            while not self.open and self._receive():
                pass
        except (SOCKSError, ValueError, OSError) as error:
            raise self._unreadable(one_line(str(error))) from None
        through, self._received = (self._received, b"") if self.open else (b"", self._received)
        return through

    def lost(self, reason: str) -> ConnectError:
        """Return the error for a connection to the proxy that is lost before the tunnel is open."""
        return ConnectError(f"{self._name()} did not answer: {one_line(reason)}")

    # ---- The steps; each returns whether there was enough to take it

    def _take(self, size: int) -> Any:
        """Hand so many bytes to the library, which wants each answer alone and whole."""
        taken, self._received = self._received[:size], self._received[size:]
        return self._socks.receive_data(taken)

    def _method(self) -> bool:
        if len(self._received) < 2:
            return False
        version, method = self._received[:2]
        offered = (_NONE,) if self._proxy.user is None else (_NONE, _PASSWORD)
        if version != 5 or method not in (*offered, _REFUSED):
            raise self._unreadable("it is not SOCKS5")
        if method == _REFUSED:
            wanted = "a user and a password: give them in proxy='socks5://USER:PASSWORD@...'"
            if self._proxy.user is not None:
                wanted = "a login of another kind than by user and password, and Limpet can do no other"
            raise ConnectError(f"{self._name()} wants {wanted}")
        self._take(2)
        if method == _PASSWORD:
            self._socks.send(SOCKS5UsernamePasswordRequest(self._user, self._password))
            self._receive = self._login
        else:
            self._ask()
        return True

    def _login(self) -> bool:
        if len(self._received) < 2:
            return False
        if not self._take(2).success:
            raise ConnectError(f"{self._name()} wants another user or password")
        self._ask()
        return True

    def _ask(self) -> None:
        self._socks.send(self._request)
        self._receive = self._answer

    def _answer(self) -> bool:
        received = self._received
        if len(received) < 2:
            return False
        if received[0] == 5 and received[1]:
            reason = _REASONS.get(received[1], f"reply {received[1]}")
            raise ConnectError(f"{self._name()} refused to connect to {self._target}: {reason}")
        if len(received) < 5:
            return False
        size = {1: 10, 3: 7 + received[4], 4: 22}.get(received[3])
        if received[0] != 5 or size is None:
            raise self._unreadable("it is not SOCKS5")
        if len(received) < size:
            return False
        self._take(size)
        self.open = True
        return True

    def _name(self) -> str:
        return f"the proxy {self._proxy.host} port {self._proxy.port}"

    def _unreadable(self, reason: str) -> ConnectError:
        return ConnectError(f"{self._name()} gave an answer that cannot be read: {reason}")
