"""Streams between Limpet's own clients and the JavaScript client, on connections that drop.

What is known of the JavaScript client (1.1.0), and where the tests steer clear of it: it does not send again what a
nack names, so that only Limpet's streams are refused fragments; it can be told `StreamNotFound` about a stream that it
has ended, fails a stream whose start is not answered, and does not tell its readers that a connection is gone for good.
"""

from __future__ import annotations

import random
from functools import partial

import pytest
from tests.helpers.waiting import LIMIT
from tests.interop.pair import Pair, arrived, ends, numbers

from limpet import StreamError


@pytest.mark.parametrize("whose", ["own", "js", "both"])
def test_cuts_lose_nothing_and_repeat_nothing(pair: Pair, whose: str) -> None:
    """Some fragments are published while their answer is lost, and some wait for a network."""
    own, js = pair.own, pair.js
    mine, theirs = own.open_stream("room"), js.open_stream("room")
    futures = []
    for cut in range(3):
        first, second = numbers(*range(20 * cut, 20 * cut + 10)), numbers(*range(20 * cut + 10, 20 * cut + 20))
        pair.swallow_answers(whose)
        own.write(mine, *first)
        futures += pair.write_js(theirs, *first)
        pair.lose(whose)
        own.write(mine, *second)
        futures += pair.write_js(theirs, *second)
        pair.resume()
        own.do(mine.flush)
        assert mine.acknowledged == 20 * cut + 20
        for future in futures:
            future.result(LIMIT)
    own.do(mine.end)
    js.end_stream(theirs).result(LIMIT)
    for client in pair.both:
        assert ends(client.events, 2) == {mine.stream_id: None, theirs: None}
        for stream_id in (mine.stream_id, theirs):
            assert arrived(client.events, stream_id) == numbers(*range(60))
        assert len(client.events.of("connected")) == 1, "it is the same connection all the time"
    assert (len(own.events.of("recovered")) >= 3) is (whose != "js")


@pytest.mark.parametrize("error", [None, "why"])
def test_a_stream_whose_start_and_end_are_not_answered(pair: Pair, error: str | None) -> None:
    """The service has done both when the connection drops. The JavaScript client fails a start that is not answered,
    and is told `StreamNotFound` when it repeats an end.
    """
    own, js = pair.own, pair.js
    pair.swallow_answers("own")
    mine = own.open_stream("room", no_echo=True)
    own.write(mine, *numbers(1, 2))
    own.do(mine.flush)
    pair.swallow_answers("own")
    own.do(*((mine.end,) if error is None else (mine.abort, error)))
    assert (mine.acknowledged, mine.closed) == (2, True)
    assert len(own.events.of("recovered")) == 2

    theirs = js.open_stream("room", noEcho=True)
    pair.write_js(theirs, *numbers(3, 4))
    own.events.wait("fragment", 2)
    pair.swallow_answers("js")
    if error is None:
        js.end_stream(theirs)
    else:
        js.abort_stream(theirs, message=error)
    fault = error and {"name": "UserError", "message": error, "code": None}
    own.events.wait("stream-end")
    own.do(own.client.send_to_group, "room", "are you back?")
    js.messages(4)  # of which three are of a stream
    js.send("room", "yes")
    js.messages(5)
    assert ends(own.events, 1) == {theirs: fault}
    assert ends(js.events, 1) == {mine.stream_id: fault}
    assert arrived(js.events, mine.stream_id) == numbers(1, 2)
    assert arrived(own.events, theirs) == numbers(3, 4)


@pytest.mark.parametrize("seed", range(2))
def test_a_network_that_breaks_in_every_way(pair: Pair, seed: int) -> None:
    """Streams of both, longer than what may be unacknowledged, while the connections of both are cut at random."""
    own, js, count = pair.own, pair.js, 300
    mine, theirs = own.open_stream("room"), js.open_stream("room")
    chance = random.Random(seed)
    loop = pair.stage.background.loop
    disturbing = [
        pair.call(partial(loop.create_task, proxy.disturb(chance, 0.2, 0.8))) for proxy in pair.proxies("both")
    ]
    writing = [own.begin_writing(mine, numbers(*range(count))), *js.write(theirs, *range(count), data_type="json")]
    own.events.wait("recovered", 2)
    for task in disturbing:
        pair.call(task.cancel)
    for future in writing:
        future.result(LIMIT)
    own.do(mine.end)
    js.end_stream(theirs).result(LIMIT)
    for client in pair.both:
        assert ends(client.events, 2) == {mine.stream_id: None, theirs: None}
        for stream_id in (mine.stream_id, theirs):
            assert arrived(client.events, stream_id) == numbers(*range(count))
        assert len(client.events.of("connected")) == 1, "it is the same connection all the time"


def test_the_service_drops_the_transport_of_either_side_amid_streams(pair: Pair) -> None:
    own, js = pair.own, pair.js
    mine, theirs = own.open_stream("room"), js.open_stream("room")
    for dropped, connection_id in enumerate([own.connection_id, js.connection_id, own.connection_id]):
        part = numbers(*range(30 * dropped, 30 * dropped + 30))
        writing = [own.begin_writing(mine, part), *pair.write_js(theirs, *part)]
        pair.stage.backend.drop(connection_id)
        for future in writing:
            future.result(LIMIT)
        own.do(mine.flush)
        for each in pair.both:
            each.events.wait("fragment", 60 * (dropped + 1))
    own.do(mine.end)
    js.end_stream(theirs).result(LIMIT)
    for each in pair.both:
        assert ends(each.events, 2) == {mine.stream_id: None, theirs: None}
        assert arrived(each.events, mine.stream_id) == arrived(each.events, theirs) == numbers(*range(90))
    assert len(own.events.of("recovered")) == 2


def test_fragments_that_the_service_refuses_for_a_while_are_sent_again(pair: Pair) -> None:
    own, js, streams = pair.own, pair.js, pair.stage.backend.service.core.streams
    mine, refused = own.open_stream("room"), iter([True, False, True, True, False, False, True])
    pair.call(lambda: streams.faults.append(lambda *_: next(refused, False)))
    own.write(mine, *numbers(*range(50)))
    own.do(mine.end)
    assert next(refused, None) is None
    assert ends(js.events, 1) == {mine.stream_id: None}
    assert arrived(js.events, mine.stream_id) == numbers(*range(50))


def test_a_writer_that_is_gone_for_good_is_told_and_so_are_the_readers(pair: Pair) -> None:
    own, js, backend = pair.own, pair.js, pair.stage.backend
    mine, theirs = own.open_stream("room", no_echo=True), js.open_stream("room")
    own.write(mine, *numbers(1, 2))
    own.do(mine.flush)
    backend.drop(own.connection_id, for_good=True)
    assert ends(js.events, 1)[mine.stream_id]["name"] == "Cancelled"
    assert arrived(js.events, mine.stream_id) == numbers(1, 2)
    with pytest.raises(StreamError) as caught:
        own.do(mine.end)
    assert (caught.value.name, caught.value.acknowledged) == ("ConnectionLost", 2)
    own.events.wait("connected", 2)
    backend.until(lambda: pair.stage.members("room") == 2)
    pair.write_js(theirs, ("text", "one"))[0].result(LIMIT)
    own.events.wait("fragment", 1)
    backend.drop(js.connection_id, for_good=True)
    assert own.events.wait("stream-end")[-1]["error"]["name"] == "Cancelled"
    assert arrived(own.events, theirs) == [("text", "one")]
    assert js.events.wait("stream-error")[0]["streamId"] == theirs


def test_a_reader_that_is_gone_for_good_is_told(pair: Pair) -> None:
    """The JavaScript client would tell its reader nothing. What comes later is a stream that is under way."""
    own, js, backend = pair.own, pair.js, pair.stage.backend
    theirs = js.open_stream("room")
    pair.write_js(theirs, *numbers(0, 1))
    own.events.wait("fragment", 2)
    backend.drop(own.connection_id, for_good=True)
    assert own.events.wait("stream-end")[0]["error"]["name"] == "Disconnected"
    own.events.wait("connected", 2)
    backend.until(lambda: pair.stage.members("room") == 2)
    pair.write_js(theirs, *numbers(2, 3))
    js.end_stream(theirs).result(LIMIT)
    assert own.events.wait("stream-end", 2)[1] == {"group": "room", "streamId": theirs, "error": None}
    assert [(each["number"], each["data"]) for each in own.events.of("fragment")] == [(n + 1, n) for n in range(4)]
    assert [begin["fromStart"] for begin in own.events.of("stream-begin")] == [True, False]
