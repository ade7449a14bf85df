"""The strict session finds each misuse of a list, and leaves a driver alone that does everything right."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.helpers.driving import URL, encoded, hello, news

from limpet import Channel, Close, ConnectError, Dial, InvalidType, InvalidValue, Link, LocalProtocolError, State
from limpet.testing import Misuse, Watched


def new(**options: Any) -> Watched:
    return Watched(random=lambda: 0.5, **options)


def drain(session: Watched) -> Dial | None:
    """Do what the rule says, by hand."""
    while events := session.events():
        assert events
    session.messages_to_send()
    assert session.deadline > 0
    return session.dial


def dialled(now: float = 1.0, **options: Any) -> tuple[Watched, Dial]:
    session = new(**options)
    session.start(now)
    dial = drain(session)
    assert dial is not None
    session.url_ready(URL, now, fixed=True)
    drain(session)
    return session, dial


def connected(now: float = 1.0, **options: Any) -> tuple[Watched, Channel]:
    session, dial = dialled(now, **options)
    channel = Channel(session, dial)
    channel.opened(now)
    drain(session)
    channel.message(encoded(hello()), now)
    drain(session)
    assert session.state is State.CONNECTED
    return session, channel


# ---- The misuses


def reentered() -> None:
    session: Watched | None = None

    def random() -> float:
        assert session is not None
        session.check(1.0)
        return 0.5

    session = Watched(random=random)
    session.start(1.0)
    drain(session)
    session.url_ready(URL, 1.0)
    session.connected(1.0)
    session.receive_messages([encoded(hello())], 1.0)
    drain(session)
    session.disconnected(1.0)


def bad_random(random: Callable[[], Any]) -> None:
    session = Watched(random=random)
    session.start(1.0)
    drain(session)
    session.url_ready(URL, 1.0)
    session.connected(1.0)
    session.receive_messages([encoded(hello())], 1.0)
    drain(session)
    session.disconnected(1.0)


def raising() -> float:
    raise OSError("no entropy")


def late_disconnected() -> None:
    """The end of an old socket, which comes when the next attempt is under way."""
    session, _ = connected()
    session.disconnected(1.0, reason="reset")
    drain(session)
    session.disconnected(1.0, reason="reset, told again by the other callback")


def late_channel() -> None:
    session, dial = dialled()
    session.dial_failed(OSError("refused"), 1.0)
    drain(session)
    Channel(session, dial)


def after_two(make: Callable[[Watched, Dial], object]) -> None:
    session, dial = dialled()
    Link(session, dial, random_bytes=os.urandom)
    make(session, dial)


def undrained(call: Callable[[Watched], Any], *, drained: tuple[str, ...] = ()) -> None:
    """After a call some of the outputs are looked at; then the driver waits for a minute."""
    session, _ = connected()
    call(session)
    for output in drained:
        getattr(session, output)() if output == "events" else getattr(session, output)
    session.wake(61.0)


def overdue() -> None:
    """A driver with a timer that never fires."""
    session, channel = connected()
    for now in (25.0, 25.5, 27.0):
        channel.message(encoded(news()), now)
        drain(session)


def not_written() -> None:
    session, _ = connected()
    session.join_group("g", 1.0)
    session.events()
    assert session.deadline
    assert session.dial
    session.check_drained()


def back_in_time() -> None:
    session, _ = connected(now=5.0)
    session.wake(4.0)


def ticking(step: float) -> Iterator[float]:
    return itertools.count(1.0, step)


def milliseconds() -> None:
    session = new(clock=lambda: 12.5)
    session.start(12_500.0)


def another_clock() -> None:
    session = new(clock=lambda: 1_700_000_000.0)
    session.start(12.5)


MISUSES: dict[str, tuple[Callable[[], Any], str]] = {
    # Time and randomness
    "start at nan": (lambda: new().start(float("nan")), "now must be a finite number"),
    "start at inf": (lambda: new().start(float("inf")), "now must be a finite number"),
    "wake at nan": (lambda: connected()[0].wake(float("nan")), "now must be a finite number"),
    "now is a str": (lambda: connected()[0].wake("1"), "now must be a finite number"),  # type: ignore[arg-type]
    "now is None": (lambda: connected()[0].check(None), "now must be"),  # type: ignore[arg-type]
    "now goes back": (back_in_time, "one monotonic clock"),
    "milliseconds": (milliseconds, "use the clock's seconds"),
    "another clock": (another_clock, "use the clock's seconds"),
    "random raises": (lambda: bad_random(raising), "random raised OSError"),
    "random draws 1": (lambda: bad_random(lambda: 1.0), "random returned 1.0: pass a function that draws from [0, 1)"),
    "random is a percentage": (lambda: bad_random(lambda: 37), "random returned 37"),
    "seconds of suspends go back": (
        lambda: (
            [connected()[0].asleep(seconds, 1.0) for seconds in (50.0,)]
            and (session := new(), session.asleep(50.0, 1.0), drain(session), session.asleep(0.0, 1.0))
        ),
        "the seconds go back",
    ),
    # One call at a time
    "a call amid another": (reentered, "check was called while disconnected runs"),
    # Dials
    "a second link": (
        lambda: after_two(lambda s, d: Link(s, d, random_bytes=os.urandom)),
        "a Link or Channel for this",
    ),
    "a channel beside a link": (lambda: after_two(Channel), "a Link or Channel for this"),
    "a channel for an old dial": (late_channel, "not wanted any more"),
    "a URL that nobody asks for": (lambda: connected()[0].url_ready(URL, 1.0), "no URL is wanted"),
    "no URL that nobody asks for": (lambda: connected()[0].url_failed(OSError(), 1.0), "no URL is wanted"),
    "open without a URL": (
        lambda: [(session := new()), session.start(1.0), drain(session), session.connected(1.0)],
        "it has no URL yet",
    ),
    "open twice": (lambda: connected()[0].connected(1.0), "it is open"),
    "failed after it was open": (lambda: connected()[0].dial_failed(OSError(), 1.0), "it is open"),
    "refused without a dial": (lambda: new().dial_refused(ConnectError("no"), 1.0), "no transport is wanted"),
    # Late calls
    "an old end": (late_disconnected, "a late call of an old one"),
    "a message before it is open": (lambda: dialled()[0].receive_message("{}", 1.0), "connected() is missing"),
    "messages while stopped": (lambda: new().receive_messages([b"{}"], 1.0), "no transport is open"),
    "a sign of life while stopped": (lambda: new().heard(1.0), "no transport is open"),
    "a sender that never waited": (lambda: connected()[0].sender_goes_on(), "sender_goes_on without sender_waits"),
    # Types
    "messages as str": (
        lambda: connected()[0].receive_messages(["{}"], 1.0),  # type: ignore[list-item]
        "the messages are bytes",
    ),
    "a message that is none": (
        lambda: connected()[0].receive_message(7, 1.0),  # type: ignore[arg-type]
        "message is 7",
    ),
    "a code as text": (
        lambda: connected()[0].disconnected(1.0, code="1000"),  # type: ignore[arg-type]
        "code is '1000'",
    ),
    "an error as text": (
        lambda: dialled()[0].dial_failed("refused", 1.0),  # type: ignore[arg-type]
        "error is 'refused'",
    ),
    "bytes as a URL": (
        lambda: [(session := new()), session.start(1.0), drain(session), session.url_ready(URL.encode(), 1.0)],  # type: ignore[arg-type]
        "url is b'",
    ),
    # Draining
    "no look at the events": (
        lambda: undrained(lambda session: session.disconnected(1.0), drained=("dial", "deadline")),
        "events wait (Recovering)",
    ),
    "no look at the dial": (
        lambda: undrained(lambda session: session.disconnected(1.0), drained=("events", "deadline")),
        "session.dial was not read",
    ),
    "no look at the deadline": (
        lambda: undrained(lambda session: session.check(1.0), drained=("events", "dial")),
        "session.deadline was not read",
    ),
    "nothing is written": (not_written, "the messages to send were not taken"),
    "a deadline that passes": (overdue, "call wake(now) then"),
}


def test_the_list_is_long_enough() -> None:
    assert len(MISUSES) >= 25


@pytest.mark.parametrize(("misuse", "text"), MISUSES.values(), ids=MISUSES.keys())
def test_each_misuse_is_found(misuse: Callable[[], Any], text: str) -> None:
    with pytest.raises(Misuse) as found:
        misuse()
    assert text in str(found.value)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "a link without a session": (lambda: Link(None, dialled()[1], random_bytes=os.urandom), InvalidType),  # type: ignore[arg-type]
    "a link without a dial": (lambda: Link(new(), None, random_bytes=os.urandom), InvalidType),  # type: ignore[arg-type]
    "a channel with a URL": (lambda: Channel(new(), URL), InvalidType),  # type: ignore[arg-type]
    "a channel of another session": (lambda: Channel(new(), dialled()[1]), InvalidValue),
    "a link of another session": (lambda: Link(new(), dialled()[1], random_bytes=os.urandom), InvalidValue),
    "random is a number": (lambda: Watched(random=0.5), InvalidType),  # type: ignore[arg-type]
    "a request before the start": (lambda: new().join_group("g", 1.0), LocalProtocolError),
    "a second start": (lambda: connected()[0].start(1.0), LocalProtocolError),
}


@pytest.mark.parametrize(("misuse", "error"), REFUSED.values(), ids=REFUSED.keys())
def test_what_any_session_refuses_is_refused(misuse: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        misuse()


def test_a_link_before_the_url_is_refused_in_its_first_line() -> None:
    session = new()
    session.start(1.0)
    dial = drain(session)
    assert dial is not None
    with pytest.raises(InvalidValue, match=r"no URL yet: call session\.url_ready"):
        Link(session, dial, random_bytes=os.urandom)


def test_what_was_found_is_kept_for_drivers_that_catch_everything() -> None:
    session, _ = connected()
    with pytest.raises(Misuse):
        session.sender_goes_on()
    assert [str(misuse) for misuse in session.misuses] == [
        "sender_goes_on without sender_waits: call it once for each sender that has waited"
    ]
    session.check(1.0)  # the session itself is as it was
    assert drain(session) is not None


def test_a_drain_may_take_its_time() -> None:
    """In the order of the rule, with a function for the URL, a connect and handlers that block."""
    clock = [1.0]
    session = new(clock=lambda: clock[0])
    channel: Channel | None = None
    calls: list[Callable[[float], Any]] = []

    def slow() -> float:
        clock[0] += 2.0
        return clock[0]

    def step() -> None:
        nonlocal channel
        if channel is not None:
            channel.to_send()
        dial = session.dial
        if dial is not None and dial.url is None:
            session.url_ready(URL, slow(), fixed=True)
        if dial is not None and (channel is None or channel.dial is not dial):
            channel = Channel(session, dial)
            if refusals:
                channel.failed(refusals.pop(), slow())
            else:
                channel.opened(slow())
        for _ in session.events():
            while calls:
                calls.pop(0)(slow())
            slow()

    def drained() -> Channel:
        for _ in range(4):
            step()
        assert session.reading
        assert session.deadline > 0
        session.check_drained()
        assert channel is not None
        return channel

    refusals = ["refused"]
    session.start(clock[0])
    calls += [session.start, session.check]
    first = drained()  # the start fails, and the handler of that starts again
    first.message(encoded(hello()), clock[0])
    calls += [lambda now: session.send_to_group("g", "x", now), lambda now: session.join_group("g", now)]
    drained()
    first.message(encoded(news(1)), clock[0])
    calls += [session.stop, session.stop]
    drained()
    first.closed(clock[0], code=1000)
    drained()
    assert session.state is State.STOPPED
    assert session.misuses == []


def test_a_driver_that_does_everything_right_is_left_alone() -> None:
    clock = [1.0]
    session, channel = connected(clock=lambda: clock[0])
    session.join_group("g", clock[0])
    drain(session)
    session.check_drained()
    clock[0] += 10.0
    session.wake(clock[0])  # early
    drain(session)
    session.sender_waits(clock[0])
    session.sender_goes_on()
    session.reading_paused(clock[0])
    session.reading_resumed(clock[0])
    session.asleep(0.0, clock[0])
    session.withdraw(99)
    drain(session)
    while clock[0] < 200.0:
        clock[0] = max(clock[0], min(session.deadline, 200.0))
        channel.heard(clock[0])
        session.wake(clock[0])
        drain(session)
        session.check_drained()
    channel.closed(clock[0])
    channel.closed(clock[0])  # a channel's late calls do nothing
    channel.message("{}", clock[0])
    channel.failed("late", clock[0])
    assert channel.to_send() == []
    assert channel.close == Close(1001)
    drain(session)
    session.stop(clock[0])
    drain(session)
    session.stop(clock[0])
    drain(session)
    assert session.state is State.STOPPED
    session.start(clock[0])
    drain(session)
    session.check_drained()
    assert session.misuses == []


def test_behind_a_close_a_driver_need_not_ask_for_messages() -> None:
    session, channel = connected()
    session.send_to_group("g", "last", 1.0, ack=False)
    session.stop(1.0)
    assert session.dial is not None
    assert session.deadline < 10.0
    session.events()
    with pytest.raises(Misuse, match="the messages to send were not taken"):
        session.check_drained()  # what was asked before the close goes out before it
    assert len(channel.to_send()) == 1
    assert channel.close == Close(1000)
    for _ in range(3):
        channel.heard(1.0)
        session.check_drained()  # most libraries refuse to send behind a close
    assert channel.to_send() == []
