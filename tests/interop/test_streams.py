"""Streams as the official JavaScript client publishes and gets them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from tests.helpers.waiting import LIMIT
from tests.interop.clients import JavaScriptClient
from tests.interop.node import JavaScriptError
from tests.interop.stage import Stage

from limpet.service import ServiceOptions


def open_client(stage: Stage, user_id: str, **options: Any) -> JavaScriptClient:
    client = stage.open("js", user_id, **options)
    assert isinstance(client, JavaScriptClient)
    return client


def streaming(stage: Stage, **options: Any) -> tuple[JavaScriptClient, JavaScriptClient]:
    """A publisher, and a member of the group."""
    publisher, member = open_client(stage, "ann", **options), open_client(stage, "bob")
    member.join("room")
    return publisher, member


def written(client: JavaScriptClient, stream_id: str, *fragments: Any, data_type: str = "text") -> None:
    for future in client.write(stream_id, *fragments, data_type=data_type):
        future.result(LIMIT)


@pytest.mark.parametrize("reliable", [True, False])
def test_fragments_of_all_types_arrive_and_the_end(stage: Stage, reliable: bool) -> None:
    publisher, member = streaming(stage, reliable=reliable)
    stream_id = publisher.open_stream("room")
    written(publisher, stream_id, "one", "")
    written(publisher, stream_id, {"two": [2, None]}, data_type="json")
    written(publisher, stream_id, b"\x00\xff", data_type="binary")
    publisher.end_stream(stream_id).result(LIMIT)
    assert member.events.wait("stream-end") == [{"group": "room", "streamId": stream_id, "error": None}]
    about = {"group": "room", "streamId": stream_id, "fromUserId": "ann"}
    assert member.events.of("fragment") == [
        {**about, "number": 1, "dataType": "text", "data": "one"},
        {**about, "number": 2, "dataType": "text", "data": ""},
        {**about, "number": 3, "dataType": "json", "data": {"two": [2, None]}},
        {**about, "number": 4, "dataType": "binary", "data": base64.b64encode(b"\x00\xff").decode()},
    ]
    assert not publisher.events.of("stream-error")


def test_many_fragments_of_two_streams_at_once(stage: Stage) -> None:
    publisher, member = streaming(stage)
    streams = [publisher.open_stream("room", streamId=name) for name in ("a", "b")]
    futures = [future for name in streams for future in publisher.write(name, *range(200), data_type="json")]
    futures += [publisher.end_stream(name) for name in streams]
    for future in futures:
        future.result(LIMIT)
    assert len(member.events.wait("stream-end", 2)) == 2
    for name in streams:
        fragments = [fragment for fragment in member.events.of("fragment") if fragment["streamId"] == name]
        assert [(fragment["number"], fragment["data"]) for fragment in fragments] == [(n + 1, n) for n in range(200)]
    stage.backend.until(lambda: not stage.backend.connection(publisher.connection_id).streams)  # type: ignore[union-attr]


def test_the_id_of_a_stream_that_has_ended_is_free_again(stage: Stage) -> None:
    publisher, member = streaming(stage)
    for number in (1, 2):
        publisher.open_stream("room", streamId="s")
        written(publisher, "s", number, data_type="json")
        publisher.end_stream("s").result(LIMIT)
        assert len(member.events.wait("stream-end", number)) == number
        publisher.send("room", "and its end has come back")
    assert member.fragments(2) == [(1, 1), (1, 2)]


def test_the_error_of_a_publisher(stage: Stage) -> None:
    publisher, member = streaming(stage)
    stream_id = publisher.open_stream("room")
    written(publisher, stream_id, "x")
    publisher.abort_stream(stream_id, message="why", userErrorCode="E42")
    (end,) = member.events.wait("stream-end")
    assert end["error"] == {"name": "UserError", "message": "why", "code": "E42"}


@pytest.mark.parametrize("no_echo", [False, True])
def test_the_publisher_hears_itself_unless_it_says_no(stage: Stage, no_echo: bool) -> None:
    publisher, member = streaming(stage)
    publisher.join("room")
    stream_id = publisher.open_stream("room", noEcho=no_echo)
    written(publisher, stream_id, "x")
    publisher.end_stream(stream_id).result(LIMIT)
    member.events.wait("stream-end")
    publisher.send("room", "last")
    publisher.messages(1 if no_echo else 3)
    assert [fragment["data"] for fragment in publisher.events.of("fragment")] == ([] if no_echo else ["x"])


def test_who_joins_in_the_middle_gets_the_rest(stage: Stage) -> None:
    publisher, member = streaming(stage)
    stream_id = publisher.open_stream("room")
    written(publisher, stream_id, "one")
    assert member.fragments(1) == [(1, "one")]
    late = open_client(stage, "zoe")
    late.join("room")
    written(publisher, stream_id, "two")
    publisher.end_stream(stream_id).result(LIMIT)
    late.events.wait("stream-end")
    assert late.fragments(1) == [(2, "two")]


def test_a_stream_to_a_group_that_is_forbidden(stage: Stage) -> None:
    publisher = open_client(stage, "ann", roles=[])
    with pytest.raises(JavaScriptError, match="does not have permission to send to group 'room'"):
        publisher.open_stream("room")
    with pytest.raises(JavaScriptError, match="idleTimeoutMs"):
        open_client(stage, "bob").open_stream("room", idleTimeoutInMs=2**32)


def test_a_permission_that_is_revoked_ends_the_stream(stage: Stage) -> None:
    publisher, member = streaming(stage)
    stream_id = publisher.open_stream("room")
    written(publisher, stream_id, "one")
    stage.service("js").revoke(publisher.connection_id, "sendToGroup", "room")
    publisher.write(stream_id, "two")
    (error,) = publisher.events.wait("stream-error")
    assert (error["streamId"], error["name"]) == (stream_id, "Forbidden")
    (end,) = member.events.wait("stream-end")
    assert end["error"]["name"] == "Forbidden"
    assert member.fragments(1) == [(1, "one")]


def test_a_silent_stream_ends_on_both_sides(stage: Stage) -> None:
    publisher, member = streaming(stage)
    stream_id = publisher.open_stream("room", idleTimeoutInMs=100)
    (error,) = publisher.events.wait("stream-error")
    assert (error["streamId"], error["name"]) == (stream_id, "IdleTimeout")
    (end,) = member.events.wait("stream-end")
    assert end["error"]["name"] == "IdleTimeout"


def test_a_publisher_that_drops_goes_on_where_it_was(stage: Stage) -> None:
    publisher, member = streaming(stage, over_proxy=True)
    stream_id = publisher.open_stream("room")
    written(publisher, stream_id, 0, data_type="json")
    for cut in range(3):
        stage.backend.swallow_answers()
        futures = publisher.write(stream_id, *range(10 * cut + 1, 10 * cut + 6), data_type="json")
        stage.lose(publisher)
        futures += publisher.write(stream_id, *range(10 * cut + 6, 10 * cut + 11), data_type="json")
        stage.backend.resume()
        for future in futures:
            future.result(LIMIT)
    publisher.end_stream(stream_id).result(LIMIT)
    (end,) = member.events.wait("stream-end")
    assert end["error"] is None
    assert member.fragments(31) == [(number + 1, number) for number in range(31)]
    assert len(publisher.events.of("connected")) == 1, "it is the same connection all the time"


def test_a_member_that_drops_misses_nothing(stage: Stage) -> None:
    publisher, member = open_client(stage, "ann"), open_client(stage, "bob", over_proxy=True)
    member.join("room")
    stream_id = publisher.open_stream("room")
    written(publisher, stream_id, *range(5), data_type="json")
    member.fragments(5)
    stage.lose(member)
    written(publisher, stream_id, *range(5, 10), data_type="json")
    publisher.end_stream(stream_id).result(LIMIT)
    stage.backend.resume()
    (end,) = member.events.wait("stream-end")
    assert end["error"] is None
    assert member.fragments(10) == [(number + 1, number) for number in range(10)]


def test_a_publisher_that_is_gone_for_good_cancels_its_streams(staged: Callable[..., Stage]) -> None:
    stage = staged(ServiceOptions(recovery_window=0.1))
    publisher, member = streaming(stage, over_proxy=True)
    stream_id = publisher.open_stream("room")
    publisher.write(stream_id, "one")
    assert member.fragments(1) == [(1, "one")]
    stage.lose(publisher)
    (end,) = member.events.wait("stream-end")
    assert end["error"]["name"] == "Cancelled"
    stage.backend.resume()
    (error,) = publisher.events.wait("stream-error")
    assert error["streamId"] == stream_id


def test_a_client_that_does_not_send_again_what_was_refused_never_ends_its_stream_well(stage: Stage) -> None:
    """The client drops what a nack names and goes on behind it (1.1.0)."""
    publisher, member = streaming(stage)
    refusals = [True]
    stage.background.call(
        lambda: stage.backend.service.core.streams.faults.append(lambda *_: bool(refusals) and refusals.pop())
    )
    stream_id = publisher.open_stream("room", idleTimeoutInMs=300)
    publisher.write(stream_id, "one", "two")
    publisher.end_stream(stream_id)
    (end,) = member.events.wait("stream-end")
    assert end["error"]["name"] == "IdleTimeout"
    assert not member.events.of("fragment")
