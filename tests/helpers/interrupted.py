"""A program of the blocking client whose main thread is interrupted at random moments, as by Ctrl-C.

``python -m tests.helpers.interrupted URL SEED COUNT LIMIT WAY``: after COUNT interrupts it prints what it knows, as
JSON; after LIMIT seconds it has hung, and every thread shows where.
"""

from __future__ import annotations

import faulthandler
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from limpet import ClientStopped, Connected, GroupMessage, Options, SendError, Session, Stopped
from limpet.sync import Client

GROUP = "interrupted"
OTHERS = 2


class Interrupts:
    """SIGINT for the main thread every few hundred microseconds, as long as it is to be interrupted."""

    def __init__(self, seed: int) -> None:
        self.left = 0
        self.count = 0
        self._random = random.Random(seed)
        self._over = threading.Event()
        signal.signal(signal.SIGINT, self._raise)
        self._main = threading.main_thread().ident
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _raise(self, *_: object) -> None:
        if self.left:
            self.left -= 1
            self.count += 1
            raise KeyboardInterrupt

    def _send(self) -> None:
        assert self._main is not None
        while not self._over.wait(self._random.expovariate(1500.0)):
            if self.left:
                signal.pthread_kill(self._main, signal.SIGINT)

    def within(self, call: Callable[[], object], times: int = 1) -> bool:
        """Call that, which may be interrupted so many times; return whether it was."""
        try:
            try:
                self.left = times
                call()
            finally:
                self.left = 0
        except KeyboardInterrupt:
            return True
        return False

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Run:
    """What is done, and what is known of it."""

    def __init__(self, url: str, seed: int, way: str) -> None:
        settings: dict[str, Any] = {}
        if way == "connect":
            from limpet.connect.websockets import blocking_connector

            settings["connect"] = blocking_connector()
        elif way == "tls":
            settings["ssl"] = sys.argv[6]
        self.random = random.Random(seed)
        self.interrupts = Interrupts(seed + 1)
        self.client = Client(url, Options(close_timeout=2.0, request_timeout=20.0), **settings)
        self.begun: list[int] = []
        self.stopped: list[Stopped] = []
        self.connected: list[Connected] = []
        self.sure: dict[str, list[int]] = {}
        self.tried: dict[str, int] = {}
        self.got: list[list[Any]] = []
        self.numbers = 0
        self.over = False
        start = Session.start

        def counted(session: Session, now: float, **settings: Any) -> None:
            start(session, now, **settings)
            self.begun.append(1)

        Session.start = counted  # type: ignore[method-assign]
        self.client.on(Stopped, self.stopped.append)
        self.client.on(Connected, self.connected.append)
        self.stream = self.client.events(GroupMessage)

    # ---- Other threads, which nobody interrupts

    def other(self, name: str) -> None:
        """Send and wait for the answer, over and over; each has its answer, or the client was stopped."""
        sure = self.sure[name] = []
        while not self.over:
            number = self.tried[name] = self.tried.get(name, -1) + 1
            try:
                self.client.send_to_group(GROUP, [name, number])
                sure.append(number)
            except (ClientStopped, SendError):
                time.sleep(0.002)

    # ---- The main thread

    def publish(self, ack: bool) -> None:
        kind = "main" if ack else "main, no ack"
        number = self.tried[kind] = self.tried.get(kind, -1) + 1
        sure = self.sure.setdefault(kind, [])
        try:
            if ack:
                self.client.send_to_group(GROUP, [kind, number])
            else:
                self.client.send_to_group(GROUP, [kind, number], ack=False)
            sure.append(number)
        except (ClientStopped, SendError):
            pass

    def flood(self) -> None:
        for _ in range(20):
            self.publish(ack=False)

    def take(self) -> None:
        try:
            for _ in range(5):
                self.got[-1].append(self.stream.next(0.001).data)
        except (TimeoutError, StopIteration):
            pass

    def subscribe(self) -> None:
        try:
            with self.client.subscribe("another"):
                pass
        except (ClientStopped, SendError):
            pass

    def join(self) -> None:
        try:
            self.client.join_group("third")
            self.client.leave_group("third")
        except (ClientStopped, SendError):
            pass

    def look(self) -> None:
        assert self.client.groups is not None
        self.client.events(GroupMessage).close()
        for _ in self.client:
            break

    def skip(self, mark: list[Any]) -> list[Any]:
        """Publish ``mark``, and return what comes before that."""
        self.client.send_to_group(GROUP, mark)
        before: list[Any] = []
        while (data := self.stream.next(30).data) != mark:
            before.append(data)
        return before

    def life(self, count: int, acts: list[Callable[[], object]]) -> None:
        """One life of the client, from a start that may be interrupted to a stop that may be."""
        interrupts, client = self.interrupts, self.client
        for times in (1, 2, 1, 0):  # the last one is left in peace: on a slow machine none would come to its end
            if interrupts.within(client.start, times):
                client.stop()
            else:
                break
        client.join_group(GROUP)
        self.skip(["begin", len(self.got)])
        self.got.append([])
        end = interrupts.count + count
        while interrupts.count < end:
            interrupts.within(self.random.choice(acts), self.random.randint(1, 3))
        self.got[-1] += self.skip(["end", len(self.got)])  # whatever was interrupted: it goes on
        while interrupts.within(client.stop, self.random.randint(1, 3)):
            pass

    def run(self, count: int) -> dict[str, Any]:
        acts = [
            lambda: self.publish(ack=True),
            lambda: self.publish(ack=True),
            lambda: self.publish(ack=False),
            self.flood,
            self.take,
            self.take,
            self.subscribe,
            self.join,
            self.look,
        ]
        names = [f"other {number}" for number in range(OTHERS)]
        others = [threading.Thread(target=self.other, args=(name,), daemon=True) for name in names]
        for thread in others:
            thread.start()
        while self.interrupts.count < count:
            self.life(min(150, count), acts)
        self.interrupts.end()
        self.over = True
        for thread in others:
            thread.join()
        for _ in range(5000):
            if len(self.stopped) == len(self.begun):
                break
            time.sleep(0.002)
        return {
            "interrupts": self.interrupts.count,
            "begun": len(self.begun),
            "stopped": [repr(event.error) for event in self.stopped],
            "connected": [event.connection_id for event in self.connected],
            "sure": self.sure,
            "tried": self.tried,
            "got": self.got,
        }


def unraisable(failure: Any, told: Callable[[Any], object] = sys.__unraisablehook__) -> None:
    """Python's own bookkeeping of threads that are dropped can be interrupted, and says so; nothing of ours may."""
    if getattr(failure.object, "__module__", "") not in ("_weakrefset", "weakref"):
        told(failure)


def main() -> None:
    sys.unraisablehook = unraisable
    url, way = sys.argv[1], sys.argv[5]
    seed, count, limit = map(int, sys.argv[2:5])
    faulthandler.dump_traceback_later(limit, exit=True)
    print(json.dumps(Run(url, seed, way).run(count)))


if __name__ == "__main__":
    main()
