"""The application server in a run: it is called for the invocations of clients, and answers, or does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from limpet_core.service import EventHandler, EventSettings, HandlerCall, ServiceCore
from simulation.clock import Clock
from simulation.ledger import Ledger

EVENT: Final = "ask"
"""The event that has a handler."""

PATIENCE: Final = 12.0
"""The time that the service leaves the handler for its answer, in seconds."""

WAYS: Final = ("unreachable", "broken", "silent", "400", "500", "nothing", "text")
"""What may go wrong or otherwise; else the answer is JSON."""

_TYPES: Final = {"json": "application/json", "text": "text/plain"}


def settings() -> EventSettings:
    """Return the settings of a service that calls the application server, once for each invocation."""
    handler = EventHandler(
        url="http://application.test/", user_events=(EVENT,), system_events=(), timeout=PATIENCE, retries=0
    )
    return EventSettings(handlers={"chat": (handler,)}, origin="service.test")


class Answering:
    """Answers the calls of a service; ``answered`` is called after each.

    Attributes:
        core: the logic of the service that calls; what another one has asked is answered in vain.
        may_be_asked_again: whether an event may come again; somebody else looks that the first caller has died then.
    """

    may_be_asked_again: ClassVar[bool] = False

    def __init__(self, clock: Clock, ledger: Ledger, answered: Callable[[], None]) -> None:
        self.clock, self.ledger, self.answered = clock, ledger, answered
        self.core: ServiceCore | None = None

    def takes(self, core: ServiceCore, call: HandlerCall) -> None:
        """Take a call that the service makes, or gives up."""
        clock = self.clock
        if call.cancelled:
            # The handler is at work and answers all the same; the service has to ignore that.
            clock.log("the call of the event handler for %s is given up", call.body.decode())
        elif call.event == "validate":
            clock.after(0.05, self._answer, core, call, 200, (("WebHook-Allowed-Origin", "*"),), b"")
        else:
            number = int(call.body)
            random = clock.draw(f"asked {number}")
            after = random.choice([0.0, 0.05, 1.0, 4.0, 9.0])
            again = self.ledger.ways.get(number)
            way = random.choice(WAYS)
            if random.random() < 0.5 or (again is None and not clock.fault(f"handler for {number}", f"{way} answer")):
                way = "json"
            way = self.ledger.ways[number] = again or way
            if way != "unreachable":
                if again is None or not self.may_be_asked_again:
                    self.ledger.called[number] += 1
                clock.log("the event handler is called for %s", number)
            if way == "silent":
                clock.at(call.deadline, self._fail, core, call, number, way)
            elif way in ("unreachable", "broken"):
                clock.after(after, self._fail, core, call, number, way)
            else:
                clock.after(after, self._reply, core, call, number, way)

    def _reply(self, core: ServiceCore, call: HandlerCall, number: int, way: str) -> None:
        self.ledger.answers[number] = way
        headers, body = (("Content-Type", _TYPES.get(way, "text/plain")),), b"%d" % number
        if way == "nothing":
            self._answer(core, call, 204, (), b"")
        else:
            self._answer(core, call, int(way) if way.isdecimal() else 200, headers, body)

    def _answer(
        self, core: ServiceCore, call: HandlerCall, status: int, headers: tuple[tuple[str, str], ...], body: bytes
    ) -> None:
        if core is self.core:
            core.handler_answered(call, status, headers, body, self.clock.now)
            self.answered()

    def _fail(self, core: ServiceCore, call: HandlerCall, number: int, way: str) -> None:
        self.ledger.answers[number] = way
        if core is self.core:
            kinds = {"silent": "timeout", "unreachable": "unreachable", "broken": "broken"}
            core.handler_failed(call, kinds[way], f"it is {way}", self.clock.now)  # type: ignore[arg-type]
            self.answered()
