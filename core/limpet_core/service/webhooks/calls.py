"""When calls to event handlers are made, repeated and given up; and whether a handler allows them at all."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from typing import Final, Literal, TypeAlias

from limpet_core.service.webhooks.handler_context import EventSettings
from limpet_core.service.webhooks.handlers import Answer, EventHandler, Failure, HandlerCall
from limpet_core.text import one_line

__all__ = ["HandlerCalls", "Outcome"]

Outcome: TypeAlias = Answer | Failure
"""How a call ended, after all its attempts."""

_LOGGER: Final = logging.getLogger("limpet.service")

# Permission is asked for again after this long; after a refusal first soon, then less and less often (emulator).
_REFRESH: Final = 60.0
_FIRST_RETRY: Final = 1.0
_VALIDATION_TIMEOUT: Final = 10.0


class _Permission:
    """Whether one URL of a handler lets itself be called: the abuse protection of the webhook specification.

    ``fresh_until`` is when to ask again; ``asking`` is the running question; ``waiting`` the calls behind it.
    """

    __slots__ = ("allowed", "asking", "fresh_until", "interval", "reason", "waiting")

    def __init__(self) -> None:
        self.allowed = False
        self.reason = ""
        self.fresh_until = -math.inf
        self.interval = 0.0
        self.asking: HandlerCall | None = None
        self.waiting: list[HandlerCall] = []


class HandlerCalls:
    """All calls of one service to its event handlers.

    `submit` takes a call; what `take` returns is to be carried out; the end is in `settled`.
    """

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._submitted: list[HandlerCall] = []
        self._running: dict[HandlerCall, bool] = {}
        self._cancelled: list[HandlerCall] = []
        self._repeats: list[tuple[float, int, HandlerCall]] = []
        self._serial = itertools.count()
        self._permissions: dict[str, _Permission] = {}
        self._settled: list[tuple[HandlerCall, Outcome]] = []
        self._settled_at = 0.0

    # --- What is true -----------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When to call `wake`; now if something is settled."""
        if self._settled:
            return self._settled_at
        return self._repeats[0][0] if self._repeats else math.inf

    @property
    def waiting(self) -> bool:
        """Whether `take` has anything to say."""
        return bool(self._submitted or self._cancelled)

    # --- What is wanted ---------------------------------------------------------------------------

    def submit(self, call: HandlerCall) -> None:
        """Make a call; the time it may take begins when `take` sees it."""
        self._submitted.append(call)

    def cancel(self, call: HandlerCall) -> None:
        """Give a call up: there will be no outcome. Repeats do nothing."""
        call.cancelled = True
        if self._running.pop(call, False):
            self._cancelled.append(call)

    def cancel_all(self) -> None:
        """Give all calls up and forget which handlers allow them."""
        for call in (*self._running, *self._submitted, *(call for _, _, call in self._repeats)):
            self.cancel(call)
        for permission in self._permissions.values():
            for call in permission.waiting:
                self.cancel(call)
        self._permissions.clear()
        self._settled.clear()

    # --- What happened ----------------------------------------------------------------------------

    def ended(self, call: HandlerCall, outcome: Outcome, now: float) -> None:
        """Take the end of an attempt. Attempts that were cancelled are over already."""
        if not self._running.pop(call, False):
            return
        call.delivered |= isinstance(outcome, Answer) or outcome.delivered
        if call.validation_url is None:
            self._answered(call, outcome, now)
        elif not self._repeat(call, outcome, now):
            self._settle(call, outcome, now)

    def wake(self, now: float) -> None:
        """Begin the attempts that are due."""
        while self._repeats and self._repeats[0][0] <= now:
            self._submitted.append(heapq.heappop(self._repeats)[2])

    # --- What to do -------------------------------------------------------------------------------

    def take(self, now: float) -> list[HandlerCall]:
        """Return the calls to start, and those to give up (``cancelled``), since the last time."""
        calls, self._cancelled = self._cancelled, []
        # Starting a call may put a question in front of it.
        while self._submitted:
            submitted, self._submitted = self._submitted, []
            calls += [call for call in submitted if not call.cancelled and self._starts(call, now)]
        return calls

    def settled(self) -> list[tuple[HandlerCall, Outcome]]:
        """Return the calls that have ended since the last time, and that somebody still waits for."""
        settled, self._settled = self._settled, []
        return [(call, outcome) for call, outcome in settled if not call.cancelled]

    # --- Attempts ---------------------------------------------------------------------------------

    def _starts(self, call: HandlerCall, now: float) -> bool:
        if call.deadline == math.inf:
            call.deadline = now + call.timeout
        elif call.deadline <= now:
            # Only earlier attempts can have reached it.
            self._settle(call, Failure("unreachable", "it could not be called in time"), now)
            return False
        if call.validation_url is not None and not self._allowed(call, call.validation_url, now):
            return False
        call.attempts += 1
        self._running[call] = True
        return True

    def _repeat(self, call: HandlerCall, outcome: Outcome, now: float) -> bool:
        """Plan another attempt if there is hope, attempts are left and it would not be too late (emulator)."""
        if isinstance(outcome, Answer):
            hopeful = outcome.status == 408 or outcome.status >= 500
        else:
            hopeful = outcome.kind in ("unreachable", "broken")
        if call.delivered and call.handler.resend == "safe":
            return False
        delay = call.handler.retry_delay(call.attempts)
        if not hopeful or delay is None or now + delay >= call.deadline:
            return False
        due = now + delay
        heapq.heappush(self._repeats, (due, next(self._serial), call))
        return True

    def _settle(self, call: HandlerCall, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Failure):
            _LOGGER.warning("event handler %s failed on %s: %s", call.address, call.event, one_line(outcome.text))
        elif not outcome.ok:
            # Most 4xx are decisions, such as not to let a client in.
            level = logging.INFO if 400 <= outcome.status < 500 else logging.WARNING
            _LOGGER.log(level, "event handler %s answered %s with %d", call.address, call.event, outcome.status)
        self._settled.append((call, outcome))
        self._settled_at = now

    # --- Abuse protection -------------------------------------------------------------------------

    def _allowed(self, call: HandlerCall, url: str, now: float) -> bool:
        """Tell whether the handler allows calls; if that is not known yet, the call waits for it."""
        permission = self._permissions.get(url)
        if permission is None:
            permission = self._permissions[url] = _Permission()
        if permission.fresh_until <= now and permission.asking is None:
            self._ask(permission, "OPTIONS", url, call.handler)
        # A permission that is not fresh still counts while it is renewed (emulator).
        if permission.allowed:
            return True
        if permission.asking is not None:
            permission.waiting.append(call)
        else:
            self._settle(call, Failure("not allowed", permission.reason), now)
        return False

    def _ask(self, permission: _Permission, method: Literal["OPTIONS", "GET"], url: str, handler: EventHandler) -> None:
        headers = (("WebHook-Request-Origin", self._settings.origin), ("ce-awpsversion", "1.0"))
        permission.asking = HandlerCall(method, url, headers, b"", handler=handler, event="validate")
        permission.asking.timeout = min(_VALIDATION_TIMEOUT, handler.timeout)
        self._submitted.append(permission.asking)

    def _answered(self, question: HandlerCall, outcome: Outcome, now: float) -> None:
        permission = self._permissions[question.url]
        if isinstance(outcome, Answer) and outcome.status == 404 and question.method == "OPTIONS":
            # Some servers have no way to answer OPTIONS (emulator).
            self._ask(permission, "GET", question.url, question.handler)
            return
        reason = self._refusal(outcome)
        if reason is None:
            permission.interval = _REFRESH
        else:
            _LOGGER.warning("event handler %s is not called: %s", question.address, one_line(reason))
            again = permission.interval == 0 or permission.allowed
            permission.interval = _FIRST_RETRY if again else min(2 * permission.interval, _REFRESH)
            permission.reason = reason
        permission.allowed = reason is None
        permission.fresh_until = now + permission.interval
        permission.asking = None
        self._submitted += permission.waiting
        permission.waiting = []

    def _refusal(self, outcome: Outcome) -> str | None:
        if isinstance(outcome, Failure):
            return f"it could not be validated with an OPTIONS request: {outcome.text}"
        if not outcome.ok:
            return f"it answered the validation request (OPTIONS) with status {outcome.status}"
        origins = [
            origin.strip().lower() for value in outcome.all("webhook-allowed-origin") for origin in value.split(",")
        ]
        if "*" in origins or self._settings.origin.lower() in origins:
            return None
        return (
            f"its answer to the validation request (OPTIONS) must have the header WebHook-Allowed-Origin with "
            f"'*' or {self._settings.origin!r}"
        )
