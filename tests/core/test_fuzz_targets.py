"""The fuzz targets over their corpus, and over bytes of hypothesis' making."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers.strategies import TEXTS, streams

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
SEEDS = sorted(CORPUS.glob("*/*"))
PROFILE = settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=list(HealthCheck))

LIKELY = {
    "frames_into_link": st.builds(lambda first, stream: bytes((0x80 | first,)) + stream, st.integers(0, 31), streams()),
    "messages_into_session": st.lists(TEXTS, max_size=10).map(b"\n".join),
    "messages_into_service": st.lists(
        st.one_of(TEXTS, st.sampled_from([path.read_bytes() for path in SEEDS if "service" in path.parent.name])),
        max_size=6,
    ).map(b"\n".join),
    "operations_on_session": st.binary(max_size=400).map(b"\x00\x00\x01\x00\x02\x00".__add__),
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
@settings(PROFILE)
def test_likely_and_unlikely_bytes(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(st.one_of(st.binary(max_size=300), LIKELY[name], LIKELY[name])))
