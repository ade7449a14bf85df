"""The fuzz targets over their corpus, and over bytes of hypothesis' making."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fuzz.targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.profiles import examples
from tests.helpers.strategies import TEXTS, streams

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
SEEDS = sorted(CORPUS.glob("*/*"))

WORDS = re.findall(
    r"\S+", "userId groups protocol eq ne gt in and or not ( ) ( ) , 'ann' 'room' 1 null true length trim"
)
LIKELY = {
    "frames_into_link": st.builds(lambda first, stream: bytes((0x80 | first,)) + stream, st.integers(0, 31), streams()),
    "messages_into_session": st.lists(TEXTS, max_size=10).map(b"\n".join),
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
