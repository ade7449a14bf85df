"""Transports for clients that shall not open their own: another WebSocket library, or one you write.

Three are ready for the asyncio client (and for anyio's on asyncio), one of them for the blocking client as well, each
imported only when you ask for it::

    from limpet.connect.aiohttp import connector       # or .websockets, or .picows
    from limpet.connect.websockets import blocking_connector

    client = Client(url, connect=connector())

To write one takes an object with three methods and a function that opens it::

    class Transport:
        async def send(self, message: str | bytes) -> None: ...        # str: a text frame, bytes: a binary one
        async def receive(self) -> str | bytes | Close: ...            # the same
        async def close(self, code: int, reason: str) -> None: ...

    async def connect(dial: Dial) -> Transport:
        return Transport(await library.open(dial.url, subprotocol=dial.protocol))

    client = Client(url, connect=connect)

What such a pair has to keep in mind, and nothing else:

- ``connect`` is called for every transport, recoveries too, always with a ``dial.url``. It offers the one subprotocol
  ``dial.protocol`` and fails where the service does not select it. It needs no timeout: when the client loses patience
  it is cancelled, and must leave nothing open then.
- What it raises is shown to people, as ``ConnectError``. A refused handshake should raise an exception whose
  ``status`` is the HTTP status (:class:`limpet.ConnectError` has one): the client gives up at once where a fixed URL
  is answered 401, 403 or 404.
- ``receive`` and ``send`` are called at the same time, each by one task. Either may be cancelled while it waits, and a
  cancelled ``receive`` must not lose a message.
- ``receive`` tells the peer's close code as it is, 1006 where there was none: 1008 says that the connection is gone
  for good, and everything else that it may be recovered. An exception counts as 1006.
- ``receive`` reads no more than it has to: a client that does not call it wants the peer to be slowed down. So queues
  on the way must be bounded, and stop the reading when they are full.
- ``send`` waits while the peer is slow, and raises when the transport is broken.
- ``close`` is called once at the end, also on a transport that is broken, and possibly while ``receive`` waits. It is
  quick: a peer that does not answer the close is left alone. When it returns, nothing is open any more.
- Messages of 32 MiB must get through (``Options.max_message_size`` has no say here). Keepalive pings and compression
  are better off: the session has pings of its own.
- URLs hold access tokens: keep them out of logs of your own (:func:`limpet.redact`). In what you raise, the client
  hides those that it knows, escapes control characters, and shortens it.

For the blocking client, :class:`limpet.sync.Client`, all four are plain functions, and there is nothing to cancel:

- ``connect`` is called in a thread of its own, which goes on to call ``receive``; a second one calls ``send``. Nothing
  waits for what hangs in there, neither ``stop()`` nor the clock, but its thread stays: ``connect`` should give up by
  itself after a while. What it opens when nobody wants it any more is closed at once.
- ``close`` is called by any thread, and must end a ``receive`` and a ``send`` that wait.
"""

from limpet import Close
from limpet._public import claim
from limpet._transports.messages import BlockingConnect, BlockingTransport, Connect, MessageTransport

__all__ = ["BlockingConnect", "BlockingTransport", "Close", "Connect", "MessageTransport"]

claim(__name__, BlockingTransport, MessageTransport)
