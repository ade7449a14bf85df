"""The fuzz targets over their corpus, and over bytes of hypothesis' making."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fuzz.targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.driving import news
from tests.helpers.profiles import examples
from tests.helpers.protobuf import downstream
from tests.helpers.strategies import MESSAGES, PARTS, TEXTS, streams

from limpet_core.protocol.messages import StreamEndError
from limpet_core.protocol.protobuf import codec

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
SEEDS = sorted(CORPUS.glob("*/*"))

WORDS = re.findall(
    r"\S+", "userId groups protocol eq ne gt in and or not ( ) ( ) , 'ann' 'room' 1 null true length trim"
)


def in_pieces(messages: list[bytes]) -> bytes:
    """The input of the protobuf targets: messages, each after its length."""
    return b"".join(bytes([len(message[:255])]) + message[:255] for message in messages)


def spoilt(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Messages with a byte that is another now and then."""
    place = st.tuples(st.integers(0, 30), st.integers(0, 255))
    return st.builds(
        lambda message, at: message if at is None else message[: at[0]] + bytes([at[1]]) + message[at[0] + 1 :],
        messages,
        st.one_of(st.none(), st.none(), place),
    )


DOWNSTREAM = st.one_of(
    MESSAGES.map(downstream),
    st.builds(news, st.integers(1, 400), st.text(max_size=20), stream=st.just({"streamId": "s", "streamSequenceId": 1}))
    .map(downstream),
)  # fmt: skip
DATA = st.one_of(st.text(max_size=10), st.binary(max_size=10), st.sampled_from([0, [1, {"a": None}], False]))
METADATA = st.sampled_from([None, {"a": "b"}])
STREAM_IDS = st.sampled_from(["s", "t"])
UPSTREAM = st.one_of(
    st.builds(codec.encode_join, st.sampled_from(["g", "h"]), st.integers(1, 9)),
    st.builds(codec.encode_send, st.sampled_from(["g", "h"]), DATA, st.none(), st.booleans(),
              st.one_of(st.none(), st.integers(1, 9)), st.just(1000), st.sampled_from([None, 5]), METADATA),
    st.builds(codec.encode_event, st.just("e"), DATA, st.none(), st.integers(1, 9), st.just(1000), METADATA),
    st.builds(codec.encode_stream_start, st.just("g"), STREAM_IDS, st.booleans(), st.sampled_from([None, 5000])),
    st.builds(codec.encode_stream_data, STREAM_IDS, st.integers(1, 3), DATA, st.none(), st.just(1000)),
    st.builds(codec.encode_stream_end, STREAM_IDS, st.sampled_from([None, StreamEndError("m", "E"), StreamEndError()])),
    st.builds(codec.sequence_ack, st.integers(0, 9)),
    st.just(codec.ping),
)  # fmt: skip

LIKELY = {
    "frames_into_link": st.builds(lambda first, stream: bytes((0x80 | first,)) + stream, st.integers(0, 31), streams()),
    "messages_into_session": st.lists(st.one_of(TEXTS, PARTS), max_size=12).map(b"\n".join),
    "messages_into_service": st.lists(
        st.one_of(TEXTS, st.sampled_from([path.read_bytes() for path in SEEDS if "service" in path.parent.name])),
        max_size=6,
    ).map(b"\n".join),
    "requests_into_service": st.builds(
        lambda method, path, query, header, body: b"%b hubs/chat/%b?%b\n%b\n\n%b" % (method, path, query, header, body),
        st.sampled_from([b"POST", b"PUT", b"DELETE", b"GET", b"HEAD"]),
        st.one_of(
            st.sampled_from(
                [b":send", b":addToGroups", b":removeFromGroups", b":closeConnections", b"users/ann/groups"]
            ),
            st.sampled_from([b"groups/room/connections/c1", b"groups/room/:send", b"permissions/1/connections/c2"]),
            st.binary(max_size=20),
        ),
        st.one_of(
            st.sampled_from([b"targetName=room", b"filter=userId ne null", b"excluded=c1&excluded=c2", b"top=1"]),
            st.binary(max_size=30),
        ),
        st.one_of(
            st.sampled_from([b"content-type: text/plain", b"content-type:application/json"]), st.binary(max_size=30)
        ),
        st.one_of(st.sampled_from([b'{"groups":["a"],"filter":"true"}', b"[1,2]", b'"']), st.binary(max_size=30)),
    ),
    "filters_on_connections": st.lists(
        st.sampled_from(WORDS),
        max_size=12,
    ).map(lambda words: " ".join(words).encode()),
    "protobuf_into_session": st.lists(spoilt(DOWNSTREAM), max_size=10).map(in_pieces),
    "protobuf_into_service": st.lists(spoilt(UPSTREAM), max_size=10).map(in_pieces),
    "operations_on_session": st.binary(max_size=400).map(b"\x00\x00\x01\x00\x02\x00".__add__),
    # Started, open, connected; then anything.
    "schedules_of_drivers": st.builds(
        b"\x00\x00\x01%b\x0a\x00\x05\x01%b".__mod__,
        st.tuples(st.sampled_from([b"\x00", b"\x01"]), st.binary(max_size=300)),
    ),
}


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_corpus_and_a_property() -> None:
    assert {path.parent.name for path in SEEDS} == set(TARGETS) == set(LIKELY)
    readme = (CORPUS.parent / "README.md").read_text()
    assert all(f"| `{name}` |" in readme for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=examples(150))
def test_likely_and_unlikely_bytes(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(st.one_of(st.binary(max_size=300), LIKELY[name], LIKELY[name])))
