"""The blocking client."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from limpet import ClientStopped, Stopped
from limpet.sync._blocking import BlockingClient


class Client(BlockingClient):
    """A Web PubSub client that holds on, for code that blocks; every method may be called from any thread.

    Use it as ``with Client(url) as client:``, or call :meth:`start` and :meth:`stop`. A thread of its own keeps the
    connection; a second one, if there are callbacks, calls these, so that they may call the client's methods.

    Args:
        url: the Client Access URL, or a function that returns one. A function is asked for every new connection,
            never for a recovery; with a fixed URL the client can go on only as long as its token is valid.
        options: see :class:`limpet.Options`.
        ssl: an ``ssl.SSLContext``, or the path of a file with the CA certificates to trust; None: the system's trust
            store. With a context of your own you can show a client certificate.
        proxy: ``http://[user:password@]host[:port]``; None: what the environment says; False: none.
        connect: a plain function that opens the transport instead, see :data:`limpet.connect.BlockingConnect`;
            ``ssl`` and ``proxy`` are its matter then.

    Raises:
        InvalidType, InvalidValue: an argument cannot be used; the message names it.
    """

    def start(self) -> None:
        """Connect. Done when the service's first message is here; from then on the client keeps itself connected.

        Raises:
            ConnectError: no connection could be made; the client is stopped again and may be started again.
            LocalProtocolError: it was started already, perhaps by the process that this one was forked from.
        """
        event = self._driver.start(self._delivery.begin)
        if type(event) is Stopped:
            self.stop()
            raise event.error or ClientStopped("the client was stopped while it started")

    def stop(self) -> None:
        """Disconnect, in whatever state; done when the connection is closed, at most ``close_timeout`` later.

        Requests that wait fail with :class:`limpet.SendError`. A client that is stopped already stays so. In a forked
        child it does nothing: the connection is the parent's.
        """
        self._driver.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
