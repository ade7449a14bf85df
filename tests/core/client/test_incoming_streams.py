"""Incoming streams: what a reader gets of a stream has no gap and no duplicate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import GroupMessage, InvalidData, Options, Session, StreamChunk, StreamError, StreamFault, StreamInfo
from limpet_core.client.incoming_streams import MAX_KEY, Begun, Extended, IncomingStreams, News, Over

Wire = tuple[Any, ...]


def fragment(
    number: int,
    stream_id: str = "s",
    *,
    end: bool = False,
    error: StreamFault | None = None,
    group: str = "g",
    data: Any = None,
) -> GroupMessage:
    if data is None:
        data = "" if end else f"{stream_id}{number}"
    info = StreamInfo(stream_id=stream_id, sequence_id=number, end=end, error=error)
    return GroupMessage(group=group, data=data, data_type="text", from_user_id="ann", stream=info)


def shown(news: list[News]) -> list[Any]:
    """News in short: how a stream begins, a fragment's data, how a stream ends."""
    short: list[Any] = []
    for each in news:
        if isinstance(each, Begun):
            short.append("start" if each.stream.from_start else "middle")
        elif isinstance(each, Extended):
            short.append(each.chunk.data)
        else:
            short.append("end" if each.error is None else (each.error.name, each.error.acknowledged))
    return short


def read(streams: IncomingStreams, *messages: GroupMessage) -> list[Any]:
    return [item for message in messages for item in shown(streams.receive(message))]


CASES: dict[str, tuple[list[GroupMessage], list[Any]]] = {
    "a whole stream": (
        [fragment(1), fragment(2), fragment(3, end=True)],
        ["start", "s1", "s2", "end"],
    ),
    "one under way": (
        [fragment(5), fragment(6), fragment(7, end=True)],
        ["middle", "s5", "s6", "end"],
    ),
    "only the end of one": ([fragment(9, end=True)], ["middle", "end"]),
    "an empty one": ([fragment(1, end=True)], ["start", "end"]),
    "duplicates": (
        [fragment(1), fragment(1), fragment(2), fragment(1), fragment(2), fragment(3)],
        ["start", "s1", "s2", "s3"],
    ),
    "a gap, and what follows it": (
        [fragment(1), fragment(3), fragment(2), fragment(4), fragment(1), fragment(5, end=True)],
        ["start", "s1", ("Gap", 1)],
    ),
    "a gap before the end": ([fragment(1), fragment(3, end=True), fragment(2)], ["start", "s1", ("Gap", 1)]),
    "an end that is too early": ([fragment(1), fragment(2), fragment(2, end=True)], ["start", "s1", "s2", ("Gap", 2)]),
    "what comes after the end": (
        [fragment(1), fragment(2, end=True), fragment(2, end=True), fragment(2), fragment(3)],
        ["start", "s1", "end"],
    ),
    "the id used again": (
        [fragment(1), fragment(2, end=True), fragment(1), fragment(2), fragment(3, end=True)],
        ["start", "s1", "end", "start", "s1", "s2", "end"],
    ),
    "the id used again after a gap": (
        [fragment(1), fragment(3), fragment(4, end=True), fragment(1)],
        ["start", "s1", ("Gap", 1), "start", "s1"],
    ),
    "data in the end": ([fragment(1, end=True, data="last")], ["start", "last", "end"]),
    "an error": (
        [fragment(1), fragment(2, end=True, error=StreamFault("UserError", "no", "E42"))],
        ["start", "s1", ("UserError", 1)],
    ),
    "an error behind a gap": (
        [fragment(1), fragment(3, end=True, error=StreamFault("Cancelled"))],
        ["start", "s1", ("Gap", 1)],
    ),
    "two streams at once, and two groups": (
        [
            fragment(1),
            fragment(1, "t"),
            fragment(1, group="h"),
            fragment(2),
            fragment(3, "t"),
            fragment(2, group="h", end=True),
            fragment(3),
        ],
        ["start", "s1", "start", "t1", "start", "s1", "s2", ("Gap", 1), "end", "s3"],
    ),
    "numbers beyond 64 bits": ([fragment(2**80), fragment(2**80 + 1)], ["middle", f"s{2**80}", f"s{2**80 + 1}"]),
    "no stream": ([GroupMessage(group="g", data="x")], []),
    "an id that is too long": ([fragment(1, "x" * MAX_KEY)], []),
    "the longest id": ([fragment(1, "x" * (MAX_KEY - 1))], ["start", "x" * (MAX_KEY - 1) + "1"]),
}


@pytest.mark.parametrize("name", CASES)
def test_fragments_are_sorted(name: str) -> None:
    messages, expected = CASES[name]
    assert read(IncomingStreams(), *messages) == expected


def test_streams_that_were_under_way_can_be_left_out() -> None:
    streams = IncomingStreams(from_start_only=True)
    assert read(streams, fragment(2), fragment(3), fragment(4, end=True)) == []
    assert len(streams) == 0
    assert read(streams, fragment(1), fragment(2), fragment(3, end=True)) == ["start", "s1", "s2", "end"]
    assert read(streams, fragment(2), fragment(1), fragment(3)) == ["start", "s1", ("Gap", 1)]


def test_what_is_known_of_a_stream() -> None:
    streams = IncomingStreams()
    begun, extended = streams.receive(fragment(7))
    assert isinstance(begun, Begun)
    stream = begun.stream
    assert (stream.group, stream.stream_id, stream.from_user_id, stream.from_start) == ("g", "s", "ann", False)
    assert isinstance(extended, Extended)
    assert extended.chunk == StreamChunk("s7", "text", 7)
    assert extended.stream is stream
    assert (stream.user_data, stream.over, stream.chunks) == (None, False, 1)
    stream.user_data = "mine"
    (extended,) = streams.receive(fragment(8))
    assert extended.stream.user_data == "mine"
    (over,) = streams.receive(fragment(9, end=True))
    assert over == Over(stream, None)
    assert (stream.over, stream.chunks) == (True, 2)


def test_a_stream_that_uses_an_id_again_takes_the_place_of_the_one_before() -> None:
    streams = IncomingStreams(most=3)
    read(streams, fragment(1, "a", end=True), fragment(1, "b"), fragment(1, "a"))
    assert len(streams) == 2
    assert read(streams, fragment(2, "a"), fragment(2, "b")) == ["a2", "b2"]


@pytest.mark.parametrize(
    ("fault", "name", "message", "code"),
    [
        (StreamFault("UserError", "why\nso", "E42"), "UserError", "why\nso", "E42"),
        (StreamFault("IdleTimeout"), "IdleTimeout", "the service has not heard of the stream for too long", None),
        (StreamFault("New", ""), "New", "the service gave no reason", None),
        (StreamFault(), "Unknown", "the service gave no reason", None),
    ],
)
def test_an_error_tells_what_is_known(fault: StreamFault, name: str, message: str, code: str | None) -> None:
    over = IncomingStreams().receive(fragment(3, end=True, error=fault))[-1]
    assert isinstance(over, Over)
    assert isinstance(over.error, StreamError)
    assert (over.error.name, over.error.message, over.error.code, over.error.acknowledged) == (name, message, code, 0)


def test_the_text_of_a_gap_says_what_is_missing() -> None:
    streams = IncomingStreams()
    streams.receive(fragment(1))
    (over,) = streams.receive(fragment(4))
    assert isinstance(over, Over)
    assert str(over.error) == "Gap: the fragment has the number 4 in place of 2; the rest of the stream is skipped"
    streams.receive(fragment(1, "t"))
    (over,) = streams.receive(fragment(4, "t", end=True))
    assert isinstance(over, Over)
    assert "the end has the number 4 in place of 2" in str(over.error)


def test_texts_of_the_service_show_no_secrets() -> None:
    session = Session(Options(), random=lambda: 0.5)
    session.start(0.0)
    session.url_ready("wss://example.test/client/hubs/chat?access_token=SECRET", 0.0)
    streams = IncomingStreams(quote=session.without_secrets)
    fault = StreamFault("A SECRET", "the\nSECRET " + "x" * 2000, "SECRET")
    over = streams.receive(fragment(1, end=True, error=fault))[-1]
    assert isinstance(over, Over)
    error = over.error
    assert error is not None
    assert "SECRET" not in f"{error!r} {error} {error.name} {error.message} {error.code}"
    assert error.message.startswith("the\n")
    assert len(error.message) <= 1000


def test_the_loss_of_the_connection_fails_all_and_what_follows_begins_anew() -> None:
    streams = IncomingStreams()
    read(streams, fragment(1), fragment(1, "t"), fragment(3, "t"), fragment(1, "u"), fragment(2, "u", end=True))
    lost = streams.disconnected("by a stop")
    assert shown(lost) == [("Disconnected", 1)]
    assert isinstance(lost[0], Over)
    assert str(lost[0].error) == "Disconnected: the connection was lost: by a stop"
    assert len(streams) == 0
    assert streams.disconnected() == []
    assert read(streams, fragment(2), fragment(4, "t"), fragment(5, "u", end=True)) == [
        "middle",
        "s2",
        "middle",
        "t4",
        "middle",
        "end",
    ]
    (over,) = streams.disconnected()[:1]
    assert isinstance(over, Over)
    assert str(over.error) == "Disconnected: the connection was lost"


def test_the_stream_that_ended_first_is_forgotten_first() -> None:
    streams = IncomingStreams(most=3)
    read(streams, fragment(1, "live"), *(fragment(1, name, end=True) for name in "abc"))
    assert read(streams, fragment(9, "a"), fragment(1, "d", end=True)) == ["start", "end"]
    assert read(streams, fragment(9, "b"), fragment(9, "c")) == []
    assert read(streams, fragment(9, "a")) == ["middle", "a9"]  # it is not known any more
    assert read(streams, fragment(2, "live")) == ["live2"]
    assert len(streams) == 5


def test_where_none_has_ended_the_one_that_was_silent_for_longest_fails() -> None:
    streams = IncomingStreams(most=2)
    read(streams, fragment(1, "a"), fragment(1, "b"), fragment(2, "a"))
    news = streams.receive(fragment(1, "c"))
    assert shown(news) == [("TooManyStreams", 1), "start", "c1"]
    assert news[0].stream.stream_id == "b"
    assert isinstance(news[0], Over)
    assert "no more than 2 streams" in str(news[0].error)
    assert read(streams, fragment(4, "a")) == [("Gap", 2)]
    assert read(streams, fragment(2, "c")) == ["c2"]
    assert read(streams, fragment(1, "d")) == ["start", "d1"]  # in place of a, which has failed already
    assert read(streams, fragment(2, "b"), fragment(5, "a"), fragment(3, "b", end=True)) == []
    assert len(streams) == 4


def test_of_one_stream_too_many_the_others_go_on() -> None:
    streams = IncomingStreams(most=10)
    told = [read(streams, fragment(number, f"{name}")) for number in range(1, 5) for name in range(11)]
    assert [item for news in told for item in news if isinstance(item, tuple)] == [("TooManyStreams", 1)]
    assert [news for news in told[11:] if not news] == [[]] * 3  # the rest of the first one


@pytest.mark.parametrize(
    ("before", "missed", "after", "expected"),
    [
        ([1, 2], 1, [1, 2, 3], [("Gap", 2), "start", "s1", "s2", "s3"]),
        ([1, 2], 1, [3, 4], ["s3", "s4"]),
        ([1, 2], 1, [2, 3], ["s3"]),
        ([1, 2], 2, [2, 3, 4], [("Gap", 2)]),
        ([1, 2], 2, [3, 4], ["s3", "s4"]),
        ([1, 2], 3, [3, 4, 1], [("Gap", 2)]),
        ([1, 3], 1, [1, 2], ["start", "s1", "s2"]),
        ([1, 3], 1, [4, 1], []),
    ],
    ids=str,
)
def test_a_stream_fails_where_its_end_may_have_been_missed(
    before: list[int], missed: int, after: list[int], expected: list[Any]
) -> None:
    streams = IncomingStreams()
    read(streams, *map(fragment, before))
    streams.missed(missed)
    assert read(streams, *map(fragment, after)) == expected


# ---- Against a model


@dataclass
class Seen:
    """One stream as the reader sees it, by its numbers."""

    key: tuple[str, str]
    numbers: list[int] = field(default_factory=list)
    over: bool = False
    error: str | None = None


GROUPS = st.sampled_from(["g", "h"])
IDS = st.sampled_from(["s", "t", "u"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("next"), GROUPS, IDS),
        st.tuples(st.just("end"), GROUPS, IDS),
        st.tuples(st.just("repeat"), GROUPS, IDS, st.integers(0, 3)),
        st.tuples(st.just("skip"), GROUPS, IDS, st.integers(1, 3)),
        st.tuples(st.just("lost")),
    ),
    max_size=60,
)


@given(steps=STEPS, from_start_only=st.booleans(), most=st.sampled_from([2, 4, 1024]))
def test_whatever_arrives_no_gap_is_merged_over_and_no_duplicate_delivered(
    steps: list[Wire], from_start_only: bool, most: int
) -> None:
    """The publisher's side numbers the fragments; the network drops and repeats some, which the reader must not see."""
    streams = IncomingStreams(from_start_only=from_start_only, most=most)
    sent: dict[tuple[str, str], int] = {}
    seen: dict[int, Seen] = {}
    kept: list[Any] = []  # else an id could be used again

    def check(news: list[News]) -> None:
        for each in news:
            kept.append(each)
            key = (each.stream.group, each.stream.stream_id)
            if isinstance(each, Begun):
                assert id(each.stream) not in seen
                seen[id(each.stream)] = Seen(key)
                assert each.stream.from_start or not from_start_only
                continue
            one = seen[id(each.stream)]
            assert not one.over
            if isinstance(each, Extended):
                one.numbers.append(each.chunk.sequence_id)
                assert each.chunk.data == each.chunk.sequence_id
            else:
                one.over = True
                if each.error is not None:
                    one.error = each.error.name
                    assert each.error.acknowledged == len(one.numbers)

    def deliver(key: tuple[str, str], number: int, *, end: bool = False) -> None:
        group, stream_id = key
        before = {each: one.over for each, one in seen.items()}
        check(streams.receive(fragment(number, stream_id, end=end, group=group, data="" if end else number)))
        for each, one in seen.items():  # a fragment ends or extends no other stream
            if one.over and not before.get(each, True):
                assert one.key == key or one.error == "TooManyStreams"
        assert len(streams) <= 2 * most

    for kind, *rest in steps:
        if kind == "lost":
            check(streams.disconnected())
            assert all(one.over for one in seen.values())
            continue
        key = (rest[0], rest[1])
        number = sent.get(key, 1)
        if kind == "repeat":
            if number - rest[2] >= 1:
                deliver(key, max(1, number - rest[2]))
            continue
        if kind == "skip":
            sent[key] = number + rest[2]
            continue
        deliver(key, number, end=kind == "end")
        sent[key] = 1 if kind == "end" else number + 1
    check(streams.disconnected())
    for one in seen.values():
        assert one.over
        first = one.numbers[0] if one.numbers else 1
        assert one.numbers == list(range(first, first + len(one.numbers)))
        assert one.error in (None, "Gap", "Disconnected", "TooManyStreams")


@given(
    count=st.integers(0, 8),
    lost=st.sets(st.integers(1, 9)),
    doubled=st.sets(st.integers(1, 9)),
    first=st.integers(1, 3),
)
def test_a_reader_gets_all_up_to_the_first_loss_and_only_a_whole_stream_ends(
    count: int, lost: set[int], doubled: set[int], first: int
) -> None:
    """One stream whose reader comes in time for the fragment ``first``."""
    streams = IncomingStreams()
    news: list[Any] = []
    arriving = [number for number in range(first, count + 2) if number not in lost]
    for number in arriving:
        for _ in range(1 + (number in doubled and number <= count)):
            news += read(streams, fragment(number, end=number == count + 1, data="" if number > count else number))
    complete: list[int] = []
    for number in arriving:
        if complete and number != complete[-1] + 1:
            break
        complete.append(number)
    chunks = [number for number in complete if number <= count]
    assert [item for item in news if isinstance(item, int)] == chunks
    ends = [item for item in news if item == "end" or isinstance(item, tuple)]
    if not arriving:
        assert news == []
    elif complete == arriving:
        assert ends == (["end"] if complete[-1] == count + 1 else [])
    else:
        assert ends == [("Gap", len(chunks))]


def test_what_is_missed_adds_up() -> None:
    streams = IncomingStreams()
    assert read(streams, fragment(1)) == ["start", "s1"]
    streams.missed(1)
    streams.missed(1)
    begun, over = streams.receive(fragment(2))[:1], None
    assert [type(each) for each in begun] == [Over]
    assert isinstance(begun[0], Over)
    over = begun[0].error
    assert over is not None
    assert over.message == (
        "messages were missed, and the end of the stream may be among them; the rest of it is skipped"
    )


def test_a_fragment_shows_and_decodes_its_data() -> None:
    chunk = StreamChunk({"id": 1}, "json", 7)
    assert repr(chunk) == "StreamChunk(data={'id': 1}, data_type='json', sequence_id=7)"
    assert chunk.decode(dict[str, int]) == {"id": 1}
    with pytest.raises(InvalidData):
        chunk.decode(str)
