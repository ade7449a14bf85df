"""What applications do with a session."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

from limpet import Backoff, ClientStopped, Options, State, TooManyRequests
from simulation.clock import Clock
from simulation.inspect import pending, set_stride
from simulation.invoking import Invoking
from simulation.presence import Presence
from simulation.reading import Reading
from simulation.service import Service
from simulation.streaming import Streaming
from simulation.weather import Weather
from simulation.witness import Asked, Watched

_TIMEOUTS = (None, None, None, None, None, 0.0, 0.05, 2.0, 20.0, 60.0)
"""Timeouts of publishes; seconds."""


class Application(Streaming, Reading, Invoking, Presence):
    """Starts and stops a session, makes requests, gives up, reads slowly. A subclass drives the session."""

    def __init__(
        self, clock: Clock, service: Service, weather: Weather, name: str, session_type: type[Watched]
    ) -> None:
        random, gentle = clock.draw(name), weather.gentle
        # One URL for all connections of a run, or a provider that is asked for each.
        self.fixed = random.random() < 0.3
        self.url = ""
        options = Options(
            protocol=weather.protocol,
            resend=weather.resend,  # type: ignore[arg-type]
            reconnect=Backoff(maximum=5.0),
            connect_timeout=10.0,
            # Long enough to notice a silence first: 11 s, after 6 s for a slow reader and two latencies.
            ack_timeout=25.0 if gentle else random.choice([3.0, 10.0, 20.0]),
            request_timeout=None if gentle else random.choice([None, None, 7.0, 30.0]),
            max_pending_requests=1000 if gentle else random.choice([1000, 1000, 15]),
            keepalive_interval=5.0,
            keepalive_timeout=11.0,
            auto_restore_group_states=clock.draw(f"{name} states").random() < 0.8,
        )
        session = session_type(options, random=random.random)
        super().__init__(clock, service, weather, name, session)
        set_stride(session, random.choice([2, 5, 150]))
        self.paused = False
        self.slow = 0.0  # seconds that the consumer will take over the next messages
        self.ending = False
        self.timeouts = None if gentle else clock.draw(f"{name} timeouts")

    # ---- Life

    def start(self) -> None:
        if self.session.state is State.STOPPED:
            self.started()
            self.stood, self.url = False, ""
            self.session.start(self.clock.now)
            self.join("room")
            self.drain()

    def stop(self) -> None:
        if self.session.state not in (State.STOPPED, State.STOPPING):
            self.stopping_since = self.clock.now
        self.session.stop(self.clock.now)

    def has_stopped(self) -> None:
        if not self.ending:
            self.clock.after(1.0, self.start)

    # ---- Requests

    def join(self, group: str) -> None:
        self.ask("join" if group != "room" else "room", lambda asked: self.session.join_group(
            group, self.clock.now, user_data=asked
        ))  # fmt: skip

    def leave(self, random: Random) -> None:
        """Leave a group, now or when the connection has been lost, and perhaps give up waiting for it."""
        if "side" in self.session.groups and not self.weather.gentle and random.random() < 0.6:
            self.service.close_connection(self.connection_id or "", "to be left")
            self.clock.after(random.choice([0.5, 1.0, 2.0, 4.0, 8.0]), self.leave_now, random)
        else:
            self.leave_now(random)

    def leave_now(self, random: Random) -> None:
        asked = self.ask("leave", lambda asked: self.session.leave_group("side", self.clock.now, user_data=asked))
        if random.random() < 0.4:
            self.clock.after(random.choice([0.0, 0.1, 1.0, 5.0]), self.give_up, asked)
        self.drain()

    def publish(self, *, group: str = "room", ack: bool = True, no_echo: bool = False) -> None:
        kind = "forbidden" if group == "secret" else f"publish {group}" if ack else "untracked"
        timeout = self.timeouts.choice(_TIMEOUTS) if self.timeouts is not None and ack else None
        asked = self.ask(kind, lambda asked: self.session.send_to_group(
            group, asked.number, self.clock.now, ack=ack, no_echo=no_echo, timeout=timeout, user_data=asked
        ), timeout=timeout)  # fmt: skip
        if no_echo:
            self.unechoed.add(asked.number)

    def ask(self, kind: str, make: Callable[[Asked], int | None], **more: Any) -> Asked:
        asked = Asked(kind, number=next(self.ledger.numbers), at=self.clock.now, **more)
        try:
            asked.ack_id = make(asked)
        except TooManyRequests:
            self.clock.log("%s: too many requests", self.name)
            waiting = len(pending(self.session)) + len(self.open_invocations)
            assert waiting >= self.options.max_pending_requests
        except ClientStopped:
            assert self.session.state in (State.STOPPED, State.STOPPING)
        else:
            self.asks(asked)
            self.asked.append(asked)
        return asked

    def ask_about(
        self, kind: str, group: str, make: Callable[[Any], int | None], state: dict[str, str] | None = None
    ) -> Asked:
        chain = f"{'own' if kind.endswith('state') else 'all'} in {group}"
        return self.ask(kind, make, chain=chain, group=group, state=state)

    def give_up(self, asked: Asked) -> None:
        """The application was cancelled while it waited."""
        if asked.ack_id is not None and not asked.outcomes and not asked.withdrawn:
            withdrawn = self.session.withdraw(asked.ack_id)
            if withdrawn:
                self.withdrew(asked)
            self.clock.log("%s: %s withdrawn=%s", self.name, asked.kind, withdrawn)
            self.drain()

    def act(self, random: Random) -> None:
        """Do something that applications do."""
        session, clock, gentle = self.session, self.clock, self.weather.gentle
        what, other = random.random(), random.random()
        if other < 0.12:
            self.begin_stream(random)
        elif other < 0.24:
            self.invoke_some(random)
        elif other < 0.40:
            self.change_state(random)
        elif what < 0.55:
            self.publish(ack=random.random() < 0.85, no_echo=random.random() < 0.1)
        elif what < 0.63:
            for _ in range(random.randint(2, 20)):
                self.publish(ack=random.random() < 0.9)
        elif what < 0.67:
            self.publish(group="secret")
        elif what < 0.70:
            self.ask("event", lambda asked: session.send_event("e", asked.number, clock.now, user_data=asked))
        elif what < 0.78:
            self.join("side")
        elif what < 0.83:
            self.leave(random)
        elif what < 0.87:
            self.publish(group="side")
        elif what < 0.91:
            session.sender_waits(clock.now)
            clock.after(random.choice([0.5, 20.0]), self.sender_goes_on)
        elif what < 0.95:
            self.slow = random.choice([0.5, 3.0, 6.0] if gentle else [3.0, 15.0, 40.0])
        elif what < 0.97:
            self.publish()
            asked = random.choice([Asked(""), *(asked for asked in self.asked[-3:] if asked.kind != "room")])
            self.give_up(asked)
        elif gentle:
            self.publish()
        elif what < 0.985:
            self.stop()
        self.drain()

    # ---- Reading

    def pause(self) -> None:
        """The consumer takes its time over the messages that it was just given."""
        if self.slow and not self.paused:
            self.paused = True
            self.session.reading_paused(self.clock.now)
            self.clock.after(self.slow, self.resume)
            self.slow = 0.0

    def resume(self) -> None:
        self.paused = False
        self.session.reading_resumed(self.clock.now)
        self.drain()

    def sender_goes_on(self) -> None:
        self.session.sender_goes_on()
        self.drain()

    # ---- URLs

    def provides(self, name: str) -> tuple[float, bool] | None:
        """Choose :attr:`url`; return after how many seconds, and whether that fails. None: there is no answer."""
        clock, wild = self.clock, not self.weather.gentle
        random = clock.draw(name)
        if self.fixed:
            self.url = self.url or self.service.new_url(random.choice([20.0, 60.0, math.inf]))
            return 0.0, False
        if not self.url or random.random() < 0.7 or not clock.faulty:
            # Else the provider remembers one that may have expired.
            self.url = self.service.new_url(random.choice([5.0, math.inf]))
        fails = wild and random.random() < 0.05 and clock.fault(name, "the provider has no URL")
        hangs = wild and random.random() < 0.02 and clock.fault(name, "the provider does not answer")
        return None if hangs else (random.choice([0.0, 0.2]), fails)

    _HANDLERS: ClassVar[dict[type, str]] = Streaming._HANDLERS | Invoking._HANDLERS | Presence._HANDLERS
