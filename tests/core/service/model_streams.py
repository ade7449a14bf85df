"""The part of the model that is about streams: who publishes which, how far they are, and when they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.core.service.model import GROUPS, STREAMS, Member, Model, Stream

some = st.integers(0, 9)
stream_ids = st.sampled_from(["s", "s", "t", "u"])


@dataclass(frozen=True)
class Fragment:
    """Where a fragment stands: so many behind the expected one, or before it."""

    behind: int

    def number(self, stream: Stream | None) -> int:
        return max(0, (1 if stream is None else stream.expected) + self.behind)


fragments = st.lists(st.sampled_from([0, 0, 0, 0, -1, 1, 2]).map(Fragment), min_size=1, max_size=4)


class ModelOfStreams(Model):
    @precondition(lambda self: self.members)
    @rule(who=some, stream_id=stream_ids, group=st.sampled_from(GROUPS), no_echo=st.booleans())
    def start_a_stream(self, who: int, stream_id: str, group: str, no_echo: bool) -> None:
        # No two streams end at the same moment: their order then is nobody's business.
        timeout = 4000 + self.news()
        about = {"streamId": stream_id, "idleTimeoutMs": timeout}
        start = {"type": "sendToGroup", "group": group, "noEcho": no_echo}
        member = self.speaks_of_streams(who, start | {"stream": about})
        if member is None:
            return
        stream = member.streams.get(stream_id)
        if stream is not None and stream.group == group:
            self.acks(member, stream)
        elif stream is not None:
            self.nacks(member, stream, "TransientError")
        elif not member.may("sendToGroup", group):
            self.closes(member, stream_id, "Forbidden")
        elif len(member.streams) >= STREAMS:
            self.closes(member, stream_id, "BadRequest")
        else:
            member.ended.pop(stream_id, None)
            stream = member.streams[stream_id] = Stream(stream_id, group, no_echo, timeout / 1000)
            stream.ends_at = self.service.now + stream.timeout
            self.acks(member, stream)

    @precondition(lambda self: self.members)
    @rule(who=some, stream_id=stream_ids, written=fragments)
    def write(self, who: int, stream_id: str, written: list[Fragment]) -> None:
        for fragment in written:
            if not self.members:
                return
            number, data = fragment.number(self.a_member(who).streams.get(stream_id)), self.news()
            place = {"streamId": stream_id, "streamSequenceId": number}
            member = self.speaks_of_streams(who, {"type": "streamData", **place, "dataType": "json", "data": data})
            if member is None:
                continue
            stream = member.streams.get(stream_id)
            if stream is None:
                self.comes_late(member, stream_id, number, False)
            elif number < stream.expected:
                stream.ack_due = True
            elif number > stream.expected:
                if not 0 < stream.refused < number:
                    self.nacks(member, stream, "InvalidSequenceId")
                stream.refused = number
            elif not member.may("sendToGroup", stream.group):
                self.fails(member, stream, "Forbidden")
            else:
                stream.expected, stream.refused, stream.ack_due = number + 1, 0, True
                stream.ends_at = self.service.now + stream.timeout
                self.hear_fragment(member, stream, {"dataType": "json", "data": data, "stream": place})

    @precondition(lambda self: self.members)
    @rule(who=some, stream_id=stream_ids)
    def keep_alive(self, who: int, stream_id: str) -> None:
        member = self.speaks_of_streams(who, {"type": "streamData", "streamId": stream_id})
        if member is None:
            return
        stream = member.streams.get(stream_id)
        if stream is None:
            self.comes_late(member, stream_id, None, False)
        else:
            stream.ends_at = self.service.now + stream.timeout

    @precondition(lambda self: self.members)
    @rule(who=some, stream_id=stream_ids, error=st.booleans())
    def end_a_stream(self, who: int, stream_id: str, error: bool) -> None:
        message: dict[str, Any] = {"type": "streamEnd", "streamId": stream_id}
        member = self.speaks_of_streams(who, message | ({"error": {"message": "why"}} if error else {}))
        if member is None:
            return
        stream = member.streams.get(stream_id)
        if stream is None:
            self.comes_late(member, stream_id, None, True)
        elif not stream.refused:
            del member.streams[stream_id]
            member.ended[stream_id] = (stream, None)
            self.hear_the_end(member, stream, "UserError" if error else None)
            self.closes(member, stream_id, None)

    @precondition(lambda self: self.members)
    @rule(who=some, stream_id=stream_ids)
    def have_a_stream_closed(self, who: int, stream_id: str) -> None:
        member = self.a_member(who)
        stream = member.streams.get(stream_id)
        done = self.core.close_stream(member.name, stream_id, "InternalServerError", "why")
        assert done is (stream is not None)
        if stream is not None:
            self.fails(member, stream, "InternalServerError")

    def speaks_of_streams(self, who: int, message: dict[str, Any]) -> Member | None:
        member = self.a_member(who)
        if member.line is None:
            return None
        member.line.client.send(message)
        return member
