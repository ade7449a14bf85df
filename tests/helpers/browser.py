"""A browser as Pyodide shows it: the modules `js` and `pyodide.ffi`, over asyncio and a real WebSocket library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Self

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol


class Proxy:
    """A function of Python for the page, which has to be destroyed, and not before it is called last."""

    alive: ClassVar[list[Proxy]] = []  # those that are not destroyed: nothing else frees them

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] | None = function
        self.alive.append(self)

    def __call__(self, *args: Any) -> None:
        assert self.function is not None, "a proxy was called that is destroyed"
        self.function(*args)

    def destroy(self) -> None:
        assert self.function is not None, "a proxy was destroyed twice"
        self.function = None
        self.alive.remove(self)


class OnceProxy(Proxy):
    """One that is destroyed when it is called."""

    def __call__(self, *args: Any) -> None:
        try:
            super().__call__(*args)
        finally:
            self.destroy()


class WebSocket:
    """The WebSocket of a page: callbacks, `bufferedAmount`, `close` with few codes."""

    onopen: Proxy | None = None
    onmessage: Proxy | None = None
    onclose: Proxy | None = None

    @classmethod
    def new(cls, url: str, protocol: str) -> Self:
        return cls(url, protocol)

    def __init__(self, url: str, protocol: str) -> None:
        self.bufferedAmount = 0
        self._unsent: asyncio.Queue[str] = asyncio.Queue()
        self._closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._open = False
        self._task = asyncio.create_task(self._live(url, protocol))

    def send(self, message: str) -> None:
        assert isinstance(message, str)
        assert self._open, "InvalidStateError"
        if not self._closing.done():
            self.bufferedAmount += len(message.encode())
            self._unsent.put_nowait(message)

    def close(self, code: int = 1005, reason: str = "") -> None:
        assert code in (1000, 1005) or 3000 <= code <= 4999, "InvalidAccessError"
        if not self._closing.done():
            self._closing.set_result((code, reason))
            if not self._open:
                self._task.cancel()

    async def _live(self, url: str, protocol: str) -> None:
        code, reason = 1006, ""
        try:
            opening = connect(
                url,
                subprotocols=[Subprotocol(protocol)],
                ping_interval=None,
                close_timeout=1,
                max_size=None,
                proxy=None,
            )
            async with opening as websocket:
                self._open = True
                self._tell("onopen")
                writer, closer = asyncio.create_task(self._write(websocket)), asyncio.create_task(self._end(websocket))
                try:
                    async for message in websocket:
                        self._tell("onmessage", data=message)
                finally:
                    writer.cancel()
                    if not self._closing.done():
                        closer.cancel()
                    await asyncio.gather(writer, closer, return_exceptions=True)
                    if (close := websocket.protocol.close_rcvd) is not None:
                        code, reason = close.code, close.reason
        except asyncio.CancelledError:
            pass  # closed before it was open
        except ConnectionClosed as error:
            code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd is not None else (1006, "")
        except Exception:  # noqa: BLE001 - a page is told nothing
            code = 1006
        self._closing.cancel()
        self._tell("onclose", code=code, reason=reason)

    async def _write(self, websocket: Any) -> None:
        while True:
            message = await self._unsent.get()
            await websocket.send(message)
            self.bufferedAmount -= len(message.encode())
            self._unsent.task_done()

    async def _end(self, websocket: Any) -> None:
        code, reason = await asyncio.shield(self._closing)
        if not self._unsent.empty() or self.bufferedAmount:
            await asyncio.wait([asyncio.create_task(self._unsent.join())], timeout=1)
        if code != 1005:
            await websocket.close(code, reason)
            return
        with suppress(ConnectionClosed):  # as in close(), which sends 1000 where no code is given
            async with websocket.send_context():
                websocket.protocol.send_close()

    def _tell(self, name: str, **attributes: Any) -> None:
        callback = getattr(self, name)
        if callback is not None:
            callback(SimpleNamespace(**attributes))


def modules() -> dict[str, ModuleType]:
    """The modules that Pyodide has, by name."""
    js, pyodide, ffi = ModuleType("js"), ModuleType("pyodide"), ModuleType("pyodide.ffi")
    timers: dict[int, asyncio.TimerHandle] = {}

    def set_timeout(function: Callable[[], None], milliseconds: int) -> int:
        assert isinstance(milliseconds, int)
        number = len(timers) + 1
        timers[number] = asyncio.get_running_loop().call_later(milliseconds / 1000, function)
        return number

    js.WebSocket = WebSocket  # type: ignore[attr-defined]
    js.setTimeout = set_timeout  # type: ignore[attr-defined]
    js.clearTimeout = lambda number: timers[number].cancel()  # type: ignore[attr-defined]
    ffi.create_proxy = Proxy  # type: ignore[attr-defined]
    ffi.create_once_callable = OnceProxy  # type: ignore[attr-defined]
    pyodide.ffi = ffi  # type: ignore[attr-defined]
    return {"js": js, "pyodide": pyodide, "pyodide.ffi": ffi}
