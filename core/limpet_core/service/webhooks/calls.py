"""Calls to event handlers: which there are, and their attempts, repetition, end and validation (abuse protection)."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from typing import Final, Literal, Protocol

from limpet_core.service.webhooks.answers import Answer, Failure, Outcome
from limpet_core.service.webhooks.handlers import ORIGIN, EventHandler, EventSettings, HandlerCall
from limpet_core.text import one_line

_LOGGER: Final = logging.getLogger("limpet.service")

# A permission is renewed after 60 seconds; a refusal after 1, 2, 4, ... and at most 60 seconds (emulator).
_REFRESH: Final = 60.0
_FIRST_RETRY: Final = 1.0
_VALIDATION_TIMEOUT: Final = 10.0


class Calls(Protocol):
    """The calls that wait for their outcome. :class:`HandlerCalls` has one process make them.

    In a cluster all nodes know of a call, and one of them makes it.
    """

    @property
    def deadline(self) -> float:
        """When to call :meth:`wake`, in monotonic seconds."""
        ...

    @property
    def has_settled(self) -> bool:
        """Whether :meth:`settled` has something to return."""
        ...

    def submit(self, call: HandlerCall) -> None:
        """Have a call made."""
        ...

    def cancel(self, call: HandlerCall) -> None:
        """Give up a call: it gets no outcome. Repeats do nothing."""
        ...

    def cancel_all(self) -> None:
        """Give up all calls."""
        ...

    def forget_permissions(self) -> None:
        """Ask each handler for its permission anew before its next call."""
        ...

    def wake(self, now: float) -> None:
        """Handle that time has passed."""
        ...

    def settled(self) -> list[tuple[HandlerCall, Outcome]]:
        """Return the calls that have ended since the last call, without cancelled ones."""
        ...


class _Permission:
    """Whether a URL of a handler allows calls: the abuse protection of the webhook specification.

    Attributes:
        fresh_until: when to ask again, in monotonic seconds.
        interval: seconds from the last answer to ``fresh_until``.
        validation: the running call that asks for permission.
        waiting: the calls that wait for its answer.
    """

    __slots__ = ("allowed", "fresh_until", "interval", "reason", "validation", "waiting")

    def __init__(self) -> None:
        self.allowed = False
        self.reason = ""
        self.fresh_until = -math.inf
        self.interval = 0.0
        self.validation: HandlerCall | None = None
        self.waiting: list[HandlerCall] = []

    def describe(self, now: float) -> str:
        """Return why the handler is not called, how old its answer is, and when it is asked again; for people."""
        age, left = now - (self.fresh_until - self.interval), self.fresh_until - now
        asked = "just now" if age < 1 else f"{age:.0f} s ago"
        return f"{self.reason} (asked {asked}; the first event after {max(left, 1):.0f} s asks again)"


class HandlerCalls:
    """All calls of one service to its event handlers: submitted, taken by the driver, ended, settled."""

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

    # ---- State

    @property
    def deadline(self) -> float:
        """When to call :meth:`wake`, in monotonic seconds; in the past if calls are settled."""
        if self._settled:
            return self._settled_at
        return self._repeats[0][0] if self._repeats else math.inf

    @property
    def has_settled(self) -> bool:
        """Whether :meth:`settled` has something to return."""
        return bool(self._settled)

    @property
    def waiting(self) -> bool:
        """Whether :meth:`take` may return calls."""
        return bool(self._submitted or self._cancelled)

    # ---- Submission

    def submit(self, call: HandlerCall) -> None:
        """Submit a call; its timeout begins with :meth:`take`. If its handler answers by itself, it is settled."""
        answer = call.handler.answer(call)
        if answer is None:
            self._submitted.append(call)
        else:
            call.delivered = True
            self._settle(call, answer, -math.inf)

    def cancel(self, call: HandlerCall) -> None:
        """Give up a call: it gets no outcome. Repeats do nothing."""
        call.cancelled = True
        if self._running.pop(call, False):
            self._cancelled.append(call)

    def cancel_all(self) -> None:
        """Give up all calls and forget all permissions."""
        for call in (*self._running, *self._submitted, *(call for _, _, call in self._repeats)):
            self.cancel(call)
        for permission in self._permissions.values():
            for call in permission.waiting:
                self.cancel(call)
        self._permissions.clear()
        self._settled.clear()

    def forget_permissions(self) -> None:
        """Ask each handler anew before its next call. Where the question is asked already, its answer counts."""
        self._permissions = {url: kept for url, kept in self._permissions.items() if kept.validation is not None}

    # ---- Inputs

    def ended(self, call: HandlerCall, outcome: Outcome, now: float) -> None:
        """Handle the end of an attempt. A cancelled attempt has ended already: ignore it."""
        if not self._running.pop(call, False):
            return
        call.delivered |= isinstance(outcome, Answer) or outcome.delivered
        if not self._repeat(call, outcome, now):
            self._end(call, outcome, now)

    def wake(self, now: float) -> None:
        """Submit the repeats that are due."""
        while self._repeats and self._repeats[0][0] <= now:
            self._submitted.append(heapq.heappop(self._repeats)[2])

    # ---- Outputs

    def take(self, now: float) -> list[HandlerCall]:
        """Return the calls to start, and to give up (``cancelled``), since the last call."""
        calls, self._cancelled = self._cancelled, []
        # Starting a call may submit a validation.
        while self._submitted:
            submitted, self._submitted = self._submitted, []
            calls += [call for call in submitted if not call.cancelled and self._start(call, now)]
        return calls

    def settled(self) -> list[tuple[HandlerCall, Outcome]]:
        """Return the calls that have ended since the last call, without cancelled ones."""
        settled, self._settled = self._settled, []
        return [(call, outcome) for call, outcome in settled if not call.cancelled]

    # ---- Attempts

    def _end(self, call: HandlerCall, outcome: Outcome, now: float) -> None:
        """Take the outcome of the last attempt."""
        if call.validation_url is None:
            self._validated(call, outcome, now)
        else:
            self._settle(call, outcome, now)

    def _start(self, call: HandlerCall, now: float) -> bool:
        """Begin an attempt; return False if the call has failed already, or waits for a permission."""
        if call.deadline == math.inf:
            call.deadline = now + call.timeout
        elif call.deadline <= now:
            # Whether an earlier attempt has reached the handler is in ``call.delivered``.
            self._end(call, Failure("unreachable", "it could not be called in time"), now)
            return False
        if call.validation_url is not None and not self._allowed(call, call.validation_url, now):
            return False
        call.attempts += 1
        self._running[call] = True
        return True

    def _repeat(self, call: HandlerCall, outcome: Outcome, now: float) -> bool:
        """Schedule another attempt if it may succeed, attempts are left and the deadline is later (emulator)."""
        if isinstance(outcome, Answer):
            hopeful = outcome.status == 408 or outcome.status >= 500
        else:
            hopeful = outcome.kind in ("unreachable", "broken")
        # A validation may be repeated in any case: it changes nothing. The events wait meanwhile (emulator).
        if call.delivered and call.handler.resend == "safe" and call.validation_url is not None:
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
        if call.attempts:
            call.duration = max(now - (call.deadline - call.timeout), 0.0)
        self._settled.append((call, outcome))
        self._settled_at = now

    # ---- Abuse protection

    def _allowed(self, call: HandlerCall, url: str, now: float) -> bool:
        """Return whether the handler allows calls. If this is not known yet, keep the call until it is."""
        permission = self._permissions.get(url)
        if permission is None:
            permission = self._permissions[url] = _Permission()
        if permission.fresh_until <= now and permission.validation is None:
            self._validate(permission, "OPTIONS", url, call.handler)
        # An old permission counts while it is renewed (emulator).
        if permission.allowed:
            return True
        if permission.validation is not None:
            permission.waiting.append(call)
        else:
            self._settle(call, Failure("not allowed", permission.describe(now)), now)
        return False

    def _validate(
        self, permission: _Permission, method: Literal["OPTIONS", "GET"], url: str, handler: EventHandler
    ) -> None:
        headers = ((ORIGIN, self._settings.origin), ("ce-awpsversion", "1.0"))
        permission.validation = HandlerCall(method, url, headers, b"", handler=handler, event="validate")
        permission.validation.timeout = min(_VALIDATION_TIMEOUT, handler.timeout)
        self._submitted.append(permission.validation)

    def _validated(self, validation: HandlerCall, outcome: Outcome, now: float) -> None:
        permission = self._permissions[validation.url]
        if isinstance(outcome, Answer) and outcome.status == 404 and validation.method == "OPTIONS":
            # Some servers have no way to answer OPTIONS (emulator).
            self._validate(permission, "GET", validation.url, validation.handler)
            return
        reason = self._refusal(validation, outcome)
        if reason is None:
            permission.interval = _REFRESH
        else:
            again = permission.interval == 0 or permission.allowed
            permission.interval = _FIRST_RETRY if again else min(2 * permission.interval, _REFRESH)
            permission.reason = one_line(reason)
            _LOGGER.warning(
                "no event goes to an event handler: %s; it is asked again after %g s",
                permission.reason,
                permission.interval,
            )
        permission.allowed = reason is None
        permission.fresh_until = now + permission.interval
        permission.validation = None
        self._submitted += permission.waiting
        permission.waiting = []

    def _refusal(self, validation: HandlerCall, outcome: Outcome) -> str | None:
        method, address = validation.method, validation.address
        if isinstance(outcome, Failure):
            return f"{address} could not be validated with an {method} request: {outcome.text}"
        if not outcome.ok:
            return f"{address} answered the validation request ({method}) with status {outcome.status}"
        # One origin in each header: the cloud does not read a list (emulator).
        origins = [value.strip().lower() for value in outcome.all("webhook-allowed-origin")]
        if "*" in origins or self._settings.origin.lower() in origins:
            return None
        return (
            f"the answer of {address} to the validation request ({method}) must have the header "
            f"WebHook-Allowed-Origin with '*' or {self._settings.origin!r}"
        )
