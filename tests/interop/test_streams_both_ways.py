"""Streams between Limpet's own clients and the official JavaScript client, in both directions at once."""

from __future__ import annotations

import pytest
from tests.helpers.waiting import LIMIT
from tests.interop.own import OWN_KINDS
from tests.interop.pair import ALL_TYPES, Pair, arrived, ends, numbers, open_js
from tests.interop.stage import Stage

from limpet import StreamError


def test_four_streams_of_all_types_at_once(pair: Pair) -> None:
    """Two streams each way; each client hears itself, but for the streams that say no."""
    own, js = pair.own, pair.js
    mine = [own.open_stream("room", no_echo=no_echo) for no_echo in (False, True)]
    theirs = [js.open_stream("room", noEcho=no_echo) for no_echo in (False, True)]
    script = ALL_TYPES * 10
    writing = [own.begin_writing(stream, script) for stream in mine]
    sent = [future for stream_id in theirs for future in pair.write_js(stream_id, *script)]
    for future in [*writing, *sent]:
        future.result(LIMIT)
    for stream in mine:
        own.do(stream.end)
        assert stream.acknowledged == len(script)
    for stream_id in theirs:
        js.end_stream(stream_id).result(LIMIT)
    ids = [stream.stream_id for stream in mine]
    assert ends(js.events, 3) == dict.fromkeys([*ids, theirs[0]])
    assert ends(own.events, 3) == dict.fromkeys([*theirs, ids[0]])
    for stream_id in [*ids, *theirs]:
        assert arrived(own.events, stream_id) == ([] if stream_id == ids[1] else script)
        assert arrived(js.events, stream_id) == ([] if stream_id == theirs[1] else script)
    assert {fragment["fromUserId"] for fragment in js.events.of("fragment") if fragment["streamId"] in ids} == {"own"}
    assert {fragment["fromUserId"] for fragment in own.events.of("fragment") if fragment["streamId"] in theirs} == {
        "js"
    }
    assert not js.events.of("stream-error")


def test_the_id_of_a_stream_that_has_ended_is_free_again(pair: Pair) -> None:
    for number in (1, 2):
        stream = pair.own.open_stream("room", stream_id="mine")
        pair.js.open_stream("room", streamId="theirs")
        pair.own.write(stream, ("json", number))
        pair.write_js("theirs", ("json", number))[0].result(LIMIT)
        pair.js.end_stream("theirs").result(LIMIT)
        pair.own.do(stream.end)
        for client in pair.both:
            assert {end["streamId"] for end in client.events.wait("stream-end", 2 * number)} == {"mine", "theirs"}
            for stream_id in ("mine", "theirs"):
                fragments = [each for each in client.events.of("fragment") if each["streamId"] == stream_id]
                assert [(each["number"], each["data"]) for each in fragments] == [(1, n + 1) for n in range(number)]
        pair.js.send("room", "and its end has come back to the publisher")


def test_an_error_with_a_code_comes_behind_the_fragments(pair: Pair) -> None:
    mine, theirs = pair.own.open_stream("room"), pair.js.open_stream("room")
    pair.own.write(mine, *numbers(*range(20)))
    pair.write_js(theirs, *numbers(*range(20)))
    pair.own.do(mine.abort, "my grün reason", "E42")
    pair.js.abort_stream(theirs, message="their reason", userErrorCode="E43")
    for client in pair.both:
        assert ends(client.events, 2) == {
            mine.stream_id: {"name": "UserError", "message": "my grün reason", "code": "E42"},
            theirs: {"name": "UserError", "message": "their reason", "code": "E43"},
        }
        for stream_id in (mine.stream_id, theirs):
            assert arrived(client.events, stream_id) == numbers(*range(20))
    with pytest.raises(StreamError, match="Aborted"):
        pair.own.write(mine, ("text", "too late"))


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_who_joins_in_the_middle_gets_the_rest(stage: Stage, kind: str) -> None:
    own, js = stage.own(kind), open_js(stage)
    mine, theirs = own.open_stream("room", stream_id="mine"), js.open_stream("room", streamId="theirs")
    early_own, early_js = stage.own(kind), open_js(stage)
    early_own.join("room")
    early_js.join("room")
    own.write(mine, *numbers(0, 1, 2))
    own.do(mine.flush)
    js.write(theirs, 0, 1, 2, data_type="json")
    for early in (early_own, early_js):
        early.events.wait("fragment", 6)
    own.join("room")
    js.join("room")
    own.write(mine, *numbers(3, 4))
    js.write(theirs, 3, 4, data_type="json")
    own.do(mine.end)
    js.end_stream(theirs).result(LIMIT)
    for late in (own, js):
        assert ends(late.events, 2) == {"mine": None, "theirs": None}
        for stream_id in ("mine", "theirs"):
            fragments = [each for each in late.events.of("fragment") if each["streamId"] == stream_id]
            assert [(each["number"], each["data"]) for each in fragments] == [(4, 3), (5, 4)]
    assert [begin["fromStart"] for begin in own.events.of("stream-begin")] == [False, False]
    assert [begin["fromStart"] for begin in early_own.events.of("stream-begin")] == [True, True]
    for early in (early_own, early_js):
        assert ends(early.events, 2) == {"mine": None, "theirs": None}
        assert arrived(early.events, "mine") == arrived(early.events, "theirs") == numbers(*range(5))


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_a_javascript_client_that_cannot_recover_reads_and_writes_as_well(stage: Stage, kind: str) -> None:
    own, js = stage.own(kind), open_js(stage, reliable=False)
    own.join("room")
    js.join("room")
    mine, theirs = own.open_stream("room"), js.open_stream("room")
    own.write(mine, *ALL_TYPES)
    for data_type, data in ALL_TYPES:
        js.write(theirs, data, data_type=data_type)
    own.do(mine.end)
    js.end_stream(theirs).result(LIMIT)
    for client in (own, js):
        assert ends(client.events, 2) == {mine.stream_id: None, theirs: None}
        assert arrived(client.events, mine.stream_id) == arrived(client.events, theirs) == ALL_TYPES


def test_a_permission_that_is_revoked_ends_the_streams_of_both(pair: Pair) -> None:
    own, js = pair.own, pair.js
    mine, theirs = own.open_stream("room"), js.open_stream("room")
    own.write(mine, ("text", "one"))
    own.do(mine.flush)
    pair.write_js(theirs, ("text", "one"))[0].result(LIMIT)
    for client in pair.both:
        client.events.wait("fragment", 2)
    for client in pair.both:
        pair.stage.service().revoke(client.connection_id, "sendToGroup", "room")
    own.write(mine, ("text", "two"))
    pair.write_js(theirs, ("text", "two"))
    with pytest.raises(StreamError, match="Forbidden") as caught:
        own.do(mine.end)
    assert caught.value.acknowledged == 1
    assert js.events.wait("stream-error")[0]["name"] == "Forbidden"
    for client in pair.both:
        assert {error["name"] for error in ends(client.events, 2).values()} == {"Forbidden"}
        assert arrived(client.events, mine.stream_id) == arrived(client.events, theirs) == [("text", "one")]
    with pytest.raises(StreamError, match="Forbidden"):
        own.open_stream("room")


def test_a_silent_stream_of_the_javascript_client_ends_and_the_own_one_goes_on(pair: Pair) -> None:
    """The JavaScript client has no method to keep a stream alive."""
    own, js = pair.own, pair.js
    mine = own.open_stream("room", idle_timeout=15.0)
    theirs = js.open_stream("room", idleTimeoutInMs=200)
    (end,) = own.events.wait("stream-end")
    assert (end["streamId"], end["error"]["name"]) == (theirs, "IdleTimeout")
    own.write(mine, ("text", "still there"))
    own.do(mine.end)
    assert ends(js.events, 2)[mine.stream_id] is None
