"""Fuzz target: all methods of a session, its links and channels, in any order, at any time, drained or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from simulation.inspect import inspect

from limpet import Backoff, Channel, Link, LocalProtocolError, Options, Session, State

URL = "ws://service.test/client/hubs/chat?access_token=secret"
MOST_REQUESTS = 20
MOST_KEPT = 12
"""Messages of the session's own, such as pings, that may wait for a transport that takes none."""

OPTIONS = Options(
    reconnect=Backoff(limit=5), first_connection=Backoff(limit=2), max_pending_requests=MOST_REQUESTS, resend="always"
)
MADE_OF_REQUESTS = (
    *("pending", "outbox", "repeats", "in flight", "unanswered", "backing off", "own", "memberships"),
    *("states asked for", "states to set again", "states to have anew", "streams", "streams that send"),
    *("invocations", "unsent invocations", "allowance taken"),
)
"""What the session keeps no more of than a few for each request that may wait."""

TIMES = (0.0, 0.001, 0.5, 1.0, 5.0, 21.0, 125.0, 1e6, -0.5, -1e6, math.nan, math.inf, -math.inf)
"""Steps of the clock. It should be monotonic; a session has to live with one that is not."""

NEVER = 255
"""The argument of a call at no time."""

HELLO = b'{"type":"system","event":"connected","connectionId":"c%d","reconnectionToken":"t"}'
MESSAGES: tuple[bytes, ...] = (
    *(b'{"type":"pong"}', b'{"type":"system","event":"disconnected","message":"bye"}', b"{", b'{"type":"new"}'),
    *(b'{"type":"ack","ackId":1,"success":true}', b'{"type":"ack","ackId":2,"success":false}', b"7"),
    b'{"type":"ack","ackId":3,"success":false,"error":{"name":"InternalServerError","message":"x"}}',
    *(b'{"type":"message","from":"server","dataType":"json","data":1,"sequenceId":%d}' % n for n in (1, 2, 3, 9)),
    *(b'{"type":"streamAck","streamId":"s","expectedSequenceId":%d}' % n for n in (1, 2, 3, 0)),
    *(b'{"type":"streamNack","streamId":"s","expectedSequenceId":%d,"name":"x"}' % n for n in (1, 2, 3)),
    *(b'{"type":"streamClosed","streamId":"s"}', b'{"type":"streamClosed","streamId":"t","error":{"name":"x"}}'),
    *(b'{"type":"ack","ackId":%d,"success":true}' % n for n in range(4, 12)),
    b'{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"text","data":"x"}',
    b'{"type":"invokeResponse","invocationId":"i","success":false,"error":{"name":"NotFound"}}',
    b'{"type":"groupStateSnapshot","group":"g","items":[{"connectionId":"c9","updatedAt":5,"state":{"a":"b"}}]}',
    b'{"type":"groupStateUpdate","group":"g","items":[{"connectionId":"c9","updatedAt":6}]}',
    b'{"type":"groupStateUpdate","group":"h","items":[{"connectionId":"c1","updatedAt":7,"state":{}},7]}',
)


class Driver:
    """One that does as it likes.

    Attributes:
        session: the session.
        now: the clock.
        links, channels: those that were made, the latest last; old ones are used, too.
        hellos: how many connected messages were sent.
    """

    def __init__(self) -> None:
        self.session = Session(OPTIONS, random=lambda: 0.5)
        self.now = 100.0
        self.links: list[Link] = []
        self.channels: list[Channel] = []
        self.hellos = 0

    def link(self, argument: int) -> Link | None:
        return self.links[-1 - argument % len(self.links)] if self.links else None

    def channel(self, argument: int) -> Channel | None:
        return self.channels[-1 - argument % len(self.channels)] if self.channels else None

    def make(self, argument: int) -> None:
        dial = self.session.dial
        if dial is not None:
            self.session.url_ready(URL, self.now, fixed=bool(argument & 2))
            if argument & 1:
                self.links = [*self.links, Link(self.session, dial, random_bytes=bytes)][-3:]
            else:
                self.channels = [*self.channels, Channel(self.session, dial)][-3:]

    def tick(self, argument: int) -> None:
        step = TIMES[argument % len(TIMES)]
        if math.isfinite(step):
            self.now = max(-1e9, min(self.now + step, 1e9))
            self.session.wake(self.now)
        else:
            self.session.wake(step)

    def hello(self, argument: int) -> None:
        self.hellos += 1
        self.session.receive_messages([HELLO % (self.hellos if argument & 1 else 1)], self.now)

    def drain(self, argument: int) -> None:
        if argument & 1:
            self.session.events()
        if argument & 2:
            self.session.messages_to_send()
        for link in self.links[-1:] if argument & 4 else ():
            link.data_to_send()
        for channel in self.channels[-1:] if argument & 8 else ():
            channel.to_send()


def on_link(call: Callable[[Link, int, float], object]) -> Callable[[Driver, int], object]:
    def called(driver: Driver, argument: int) -> None:
        if (link := driver.link(argument)) is not None:
            before = None if link.dial.wanted else repr(driver.session)
            call(link, argument, math.nan if argument == NEVER else driver.now)
            assert before in (None, repr(driver.session)), "an old link changes the session"

    return called


def on_channel(call: Callable[[Channel, int, float], object]) -> Callable[[Driver, int], object]:
    def called(driver: Driver, argument: int) -> None:
        if (channel := driver.channel(argument)) is not None:
            before = None if channel.dial.wanted else repr(driver.session)
            call(channel, argument, math.nan if argument == NEVER else driver.now)
            assert before in (None, repr(driver.session)), "an old channel changes the session"

    return called


CALLS: list[Callable[[Driver, int], object]] = [
    lambda d, a: d.session.start(d.now),
    Driver.make,
    Driver.tick,
    Driver.tick,
    lambda d, a: d.session.wake(max(d.now, d.session.deadline)) if d.session.deadline < math.inf else None,
    Driver.hello,
    Driver.drain,
    lambda d, a: d.session.receive_messages([MESSAGES[a % len(MESSAGES)]] * (1 + a // 128), d.now),
    lambda d, a: d.session.url_ready(URL if a & 1 else "nowhere", d.now),
    lambda d, a: d.session.url_failed(OSError("no"), d.now),
    lambda d, a: d.session.connected(d.now),
    lambda d, a: d.session.dial_failed(OSError("no"), d.now, status=400 + a % 5, retry_after=(None, 3.0, 1e9)[a % 3]),
    lambda d, a: d.session.disconnected(d.now, code=1000 + a % 16),
    lambda d, a: d.session.receive_binary(b"", d.now),
    lambda d, a: d.session.transport_broken(1002, "?", d.now),
    lambda d, a: d.session.heard(d.now if a else math.nan),
    lambda d, a: d.session.check(d.now if a else math.inf),
    lambda d, a: d.session.asleep(float(a * 7), d.now),
    lambda d, a: d.session.reading_paused(d.now),
    lambda d, a: d.session.reading_resumed(d.now),
    lambda d, a: d.session.sender_waits(d.now),
    lambda d, a: d.session.sender_goes_on(),
    lambda d, a: d.session.join_group("gh"[a & 1], d.now),
    lambda d, a: d.session.leave_group("gh"[a & 1], d.now),
    lambda d, a: d.session.send_to_group("g", a, d.now, ack=bool(a & 1)),
    lambda d, a: d.session.send_event("e", a, d.now, ack=bool(a & 1), ack_id=a if a & 3 == 3 else None),
    lambda d, a: d.session.withdraw(a % 32),
    lambda d, a: d.session.stop(d.now) if a < 64 else None,
    on_link(lambda link, a, now: link.receive_data(b"HTTP/1.1 503 No\r\nRetry-After: 9\r\n\r\n"[: a + 1], now)),
    on_link(lambda link, a, now: link.receive_data(bytes([a, a // 2, a % 7]), now)),
    on_link(lambda link, a, now: link.receive_data(b"", now)),
    on_link(lambda link, a, now: link.transport_lost("reset", now)),
    on_link(lambda link, a, now: link.failed("refused", now)),
    on_link(lambda link, a, now: link.send_failed(OSError("pipe"), now)),
    on_channel(lambda channel, a, now: channel.opened(now)),
    on_channel(lambda channel, a, now: channel.opened(now)),
    on_channel(lambda channel, a, now: channel.message(MESSAGES[a % len(MESSAGES)], now)),
    on_channel(lambda channel, a, now: channel.binary(b"\x00", now)),
    on_channel(lambda channel, a, now: channel.heard(now)),
    on_channel(lambda channel, a, now: channel.broken(1007, "?", now)),
    on_channel(lambda channel, a, now: channel.closed(now, code=1000 + a % 16, reason="over")),
    on_channel(lambda channel, a, now: channel.failed(OSError("no"), now, status=400 + a % 5)),
    on_channel(lambda channel, a, now: channel.send_failed("pipe", now)),
    lambda d, a: d.session.open_stream("g", d.now, stream_id=(None, "s", "t")[a % 3], idle_timeout=(300.0, 0.5)[a & 1]),
    lambda d, a: d.session.write_stream("st"[a & 1], a, d.now),
    lambda d, a: d.session.stream_has_room("st"[a & 1]),
    lambda d, a: d.session.end_stream("st"[a & 1], d.now),
    lambda d, a: d.session.abort_stream("st"[a & 1], "enough", d.now, code="E1" if a & 2 else None),
    lambda d, a: d.session.invoke("e", a, d.now, timeout=(None, 0.5, 9.0)[a % 3], invocation_id=(None, "i")[a & 1]),
    lambda d, a: d.session.cancel_invocation("i" if a & 1 else str(a % 8), d.now if a != NEVER else math.nan),
    lambda d, a: d.session.set_group_state("gh"[a & 1], {"a": str(a)}, d.now),
    lambda d, a: d.session.clear_group_state("gh"[a & 1], d.now),
    lambda d, a: d.session.subscribe_group_states("gh"[a & 1], d.now),
    lambda d, a: d.session.unsubscribe_group_states("gh"[a & 1], d.now),
    lambda d, a: d.session.group_states("gh"[a & 1]),
]


def schedules_of_drivers(data: bytes) -> None:
    """All methods in any order: only misuse raises; a session that is not stopped waits for something; all is small."""
    driver = Driver()
    session = driver.session
    calls = iter(data)
    for code in calls:
        argument = next(calls, 0)
        with suppress(LocalProtocolError):
            CALLS[code % len(CALLS)](driver, argument)
        assert session.running == ""
        repr(session)
        _agree(driver)
        _alive(session)
        _small(session)
    _stops(driver)


def _agree(driver: Driver) -> None:
    session = driver.session
    for each in (*driver.links, *driver.channels):
        assert each.dial.wanted is (each.dial is session.dial), "an old dial is wanted, or the current one is not"
        if repr(each).endswith(", open>"):
            assert "not open" not in repr(session), "a link or channel is open, and the session does not know"


def _alive(session: Session) -> None:
    dial, deadline = session.dial, session.deadline
    assert deadline == deadline, "the deadline is no number"
    if session.state is State.STOPPED:
        assert (dial, deadline) == (None, math.inf), "a stopped session wants something"
    else:
        assert dial is not None or deadline < math.inf, "the session is dead: it wants no transport, and nothing is due"
        if session.state in (State.CONNECTING, State.STOPPING, State.RECOVERING, State.WAITING):
            assert deadline < math.inf, "the session may wait for its peer for ever"


def _small(session: Session) -> None:
    kept = inspect(session).left
    assert len(kept.get("control", ())) <= MOST_KEPT  # type: ignore[arg-type]
    for name in MADE_OF_REQUESTS:
        held = kept.get(name, ())
        size = held if isinstance(held, int) else len(held)  # type: ignore[arg-type]
        assert size <= 3 * MOST_REQUESTS, f"{name} grows: {size}"


def _stops(driver: Driver) -> None:
    session = driver.session
    session.stop(driver.now)
    for _ in range(2):  # the first may find that the process stood still, and gives the peer a second more
        session.wake(max(driver.now, min(session.deadline, 1e12)))
    assert session.state is State.STOPPED, "stop() does not end"
    session.events()
    assert session.messages_to_send() == []
    assert (session.dial, session.deadline) == (None, math.inf)
    session.start(0.0)
    assert session.dial is not None
    session.stop(0.0)
