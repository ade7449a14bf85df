"""Message transports for clients: another WebSocket library, or a transport of the application's own.

There are three connectors for the asyncio client (and for anyio's on asyncio), and one for the blocking client. Import
the module of the library that you use::

    from limpet.connect.aiohttp import connector       # or .websockets, or .picows
    from limpet.connect.websockets import blocking_connector

    client = Client(url, connect=connector())

A transport is an object with three methods, and ``connect`` is a function that opens it::

    class Transport:
        async def send(self, message: str | bytes) -> None: ...        # str: a text frame, bytes: a binary one
        async def receive(self) -> str | bytes | Close: ...            # Close: the end
        async def close(self, code: int, reason: str) -> None: ...

    async def connect(dial: Dial) -> Transport:
        return Transport(await library.open(dial.url, subprotocol=dial.protocol))

    client = Client(url, connect=connect)

A library that needs a nursery, a task group or a cancel scope, as trio-websocket and httpx-ws do, is held open by an
async context manager::

    @asynccontextmanager
    async def connect(dial: Dial) -> AsyncGenerator[Transport]:
        async with trio_websocket.open_websocket_url(dial.url, subprotocols=[dial.protocol]) as websocket:
            yield Transport(websocket)

Which task calls what, and what may be cancelled:

- asyncio: one task calls ``connect``, a second one ``receive``, a third one ``send``. ``close`` has a task of its own.
- trio and anyio: one task calls ``connect`` and then ``receive``, a second one ``send``. Either of them may call
  ``close``.
- A context manager has a task of its own, which enters and leaves it. The block in it ends when ``close`` has returned.
- ``connect`` is cancelled when the attempt takes too long or the client stops, and so is the entry of a context
  manager, with all that it does on its way out.
- ``receive`` and ``send`` are cancelled when the client does not want the transport any more; ``close`` comes next,
  or is at work already.
- ``close`` and the exit of a context manager that was entered are never cancelled within ``Options.close_timeout``,
  whatever happens to the client. Both together have that time. A ``close`` that takes longer is cancelled, and should
  abort then.
- A context manager whose block is cancelled from within, as a nursery does when a task of it fails, has lost the
  connection: the client hears of the exception, calls ``close``, and recovers.

The duties of ``connect`` and of a transport:

- ``connect`` is called for every transport, recoveries included, always with a ``dial.url``. It offers the one
  subprotocol ``dial.protocol`` and fails if the service does not select it. It sends ``dial.headers``, besides its own
  headers, to the service and not to a proxy. It needs no timeout: it is cancelled when the attempt takes too long, and
  must leave nothing open then.
- The exception of ``connect`` is shown to people, as ``ConnectError``. A refused handshake should raise an exception
  whose ``status`` is the HTTP status (:class:`limpet.ConnectError` has one): the client gives up at once if a fixed URL
  is answered 401, 403 or 404. A ``retry_after`` (ConnectError has that, too) is the delay in seconds that the answer
  asks for. :func:`refused` makes such an exception of an answer.
- ``receive`` and ``send`` are called at the same time, each by one task. Either may be cancelled while it waits, and a
  cancelled ``receive`` must not lose a message.
- ``receive`` returns the peer's close code unchanged, 1006 if there was none: after 1008 the connection cannot be
  recovered, after any other code it can. An exception counts as 1006.
- ``receive`` reads no more than it has to: a client that does not call it slows the peer down. Queues in between must
  be bounded, and stop the reading when they are full.
- ``send`` waits while the peer is slow, and raises when the transport is broken.
- ``close`` is called once at the end, also on a broken transport, and possibly while ``receive`` waits.
  It is quick: it waits for a peer that does not answer no longer than ``close_timeout``. When it returns, nothing is
  open any more.
- Messages of 32 MiB must get through (``Options.max_message_size`` does not apply here). Keepalive pings and
  compression should be off: the session has pings of its own.
- URLs contain access tokens: keep them out of logs (:func:`limpet.redact`). In the text of exceptions the client hides
  the tokens that it knows, escapes control characters, and shortens the text.

For the blocking client, :class:`limpet.sync.Client`, ``connect`` and the three methods are plain functions, and nothing
is cancelled:

- ``connect`` is called in a thread of its own, which then calls ``receive``; a second thread calls ``send``. Nothing
  waits for a ``connect`` that hangs, but its thread stays: it should give up after a while. A transport that it opens
  when the client does not want it any more is closed at once.
- ``close`` is called by any thread, and must end a ``receive`` and a ``send`` that wait.
"""

from limpet import Close
from limpet._public import claim
from limpet._transports.messages import BlockingConnect, BlockingTransport, Connect, ConnectManager, MessageTransport
from limpet_core.client.refusals import refused

__all__ = ["BlockingConnect", "BlockingTransport", "Close", "Connect", "ConnectManager", "MessageTransport", "refused"]

claim(__name__, BlockingTransport, MessageTransport, refused)
