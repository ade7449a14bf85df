"""Masked frames: in C and in Python they are the same to the byte, and any of them is read back."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.helpers import frames
from tests.helpers.profiles import examples

from limpet_core.client import masking
from limpet_core.client.masking import ApplyMask, Heads, Masker, find_apply_mask

KINDS = st.sampled_from([frames.TEXT, frames.BINARY])
WAYS = [None, find_apply_mask()]


class Counted:
    """Bytes that tell which part of the pool they are from."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, size: int) -> bytes:
        self.asked.append(size)
        return bytes((len(self.asked) * 7 + index) % 256 for index in range(size))


def test_messages_of_up_to_a_kibibyte_are_masked_in_python() -> None:
    masker = Masker(bytes, apply_mask=None)
    short, long = b"x" * 1024, b"y" * 1025
    written = masker.frames([short, long, short], lambda payload: b"<%d>" % len(payload))
    between = b"<1025>"
    assert written.count(between) == 1
    assert [frames.parse_client_frames(part) for part in written.split(between)] == [[(frames.TEXT, short)]] * 2


@pytest.mark.parametrize("size", [0, 125, 126, 1024, 1025, (1 << 16) - 1, 1 << 16, 100_000])
def test_all_messages_are_masked_in_c_where_it_is_installed(size: int) -> None:
    apply_mask = find_apply_mask()
    assert apply_mask is not None, "the extra speedups is part of all"
    payload = bytes(index % 251 for index in range(size))
    written = Masker(Counted(), apply_mask=apply_mask).frames([b"first", payload], pytest.fail)
    assert frames.parse_client_frames(written) == [(frames.TEXT, b"first"), (frames.TEXT, payload)]


def masks_of(calls: list[int]) -> Iterator[bytes]:
    """Return the masks for calls with so many messages each."""
    random_bytes = Counted()
    pool = b""
    for count in calls:
        many = random_bytes(4 * count) if count >= 16 else b""
        for number in range(count):
            if many:
                yield many[4 * number : 4 * number + 4]
            else:
                pool = pool or random_bytes(256)
                yield pool[:4]
                pool = pool[4:]


@pytest.mark.parametrize("kind", [frames.TEXT, frames.BINARY])
def test_heads_are_made_once_but_for_long_messages(kind: int) -> None:
    heads = Heads(0x80 | kind)
    sizes = [0, 1, 124, 125, 126, 127, 4095, 4096, (1 << 16) - 1, 1 << 16]
    for _ in range(2):
        for size in sizes:
            assert heads[size] == frames.frame(kind, bytes(size), mask=b"MASK").partition(b"MASK")[0]
    assert sorted(heads) == [size for size in sizes if size < 4096]


@pytest.mark.parametrize("together", [1, 7, 15, 16, 200])
@pytest.mark.parametrize("kind", [frames.TEXT, frames.BINARY])
@pytest.mark.parametrize("apply_mask", WAYS, ids=["in Python", "in C"])
def test_each_message_has_the_next_four_random_bytes_for_its_mask(
    apply_mask: ApplyMask | None, kind: int, together: int
) -> None:
    sizes = [*range(70), 124, 125, 126, 127, 128, 255, 256, 257, 511, 512, 1021, 1022, 1023, 1024] * 2
    payloads = [bytes((3 * number + index) % 256 for index in range(size)) for number, size in enumerate(sizes)]
    masker = Masker(Counted(), binary=kind == frames.BINARY, apply_mask=apply_mask)
    written = [masker.frames(payloads[at : at + together], pytest.fail) for at in range(0, len(payloads), together)]
    masks = masks_of([len(payloads[at : at + together]) for at in range(0, len(payloads), together)])
    expected = [frames.frame(kind, payload, mask=mask) for payload, mask in zip(payloads, masks, strict=True)]
    assert b"".join(written) == b"".join(expected)


@pytest.mark.parametrize("apply_mask", WAYS)
@given(payload=st.binary(max_size=1024), repeats=st.integers(1, 200), kind=KINDS)
@settings(max_examples=examples(100))
def test_masked_frames_are_read_back(apply_mask: ApplyMask | None, payload: bytes, repeats: int, kind: int) -> None:
    random_bytes = Counted()
    masker = Masker(random_bytes, binary=kind == frames.BINARY, apply_mask=apply_mask)
    together = repeats // 2
    written = masker.frames([payload] * together, bytes)
    written += b"".join(masker.frames([payload], bytes) for _ in range(repeats - together))
    assert frames.parse_client_frames(written) == [(kind, payload)] * repeats
    assert sum(random_bytes.asked) >= 4 * repeats, "no mask is used twice"


@given(st.lists(st.lists(st.binary(max_size=1024), max_size=100), max_size=4), KINDS)
@example([[bytes(size) for size in (0, 1, 3, 4, 125, 126, 1023, 1024)]], frames.TEXT)
@settings(max_examples=examples(100))
def test_both_ways_write_the_same_bytes(batches: list[list[bytes]], kind: int) -> None:
    python, quick = (Masker(Counted(), binary=kind == frames.BINARY, apply_mask=way) for way in WAYS)
    for payloads in batches:
        assert python.frames(payloads, pytest.fail) == quick.frames(payloads, pytest.fail)


def test_without_the_package_python_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert masking.APPLY_MASK is not None
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    assert find_apply_mask() is None
