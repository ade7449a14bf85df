"""Sessions and the service in pairs, through a bad network, in virtual time: nothing is lost, doubled or hidden."""

from __future__ import annotations

import pytest
from tests.helpers.network import Weather, run

from holdfast import JSON

KINDS = {
    "nothing fails": Weather(faults=0),
    "recovery never fails": Weather(),
    "recovery never fails and says nothing": Weather(connected_after_recovery=False),
    "anything fails": Weather(gentle=False),
    "anything fails and recovery says nothing": Weather(gentle=False, connected_after_recovery=False),
    "anything fails and nothing can be recovered": Weather(gentle=False, protocol=JSON),
    "anything fails and all is repeated": Weather(gentle=False, resend="always"),
}
BLOCK = 12


@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_promised_is_kept(kind: str, block: int) -> None:
    for seed in range(block * BLOCK, block * BLOCK + BLOCK):
        run(seed, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_says_it_all(kind: str) -> None:
    assert run(7, KINDS[kind]).trace == run(7, KINDS[kind]).trace


def test_the_faults_do_happen() -> None:
    """The runs above are worth something: in some of them everything that can go wrong has gone wrong."""
    seen: set[str] = set()
    signs = [
        "cut of",
        "silence of",
        "nothing gets through",
        "the service crashes",
        "the service shuts down",
        "the application server closes",
        "Recovering(",
        "Recovered(",
        "Disconnected(",
        "Stopped(error=ConnectError",
        "MessagesMissed(",
        "code=1008",
        "not recovered within",
        "nothing was heard",
        "timed out",
        "duplicate=True",
        "withdrawn=True",
        "'unsent'",
        "'unknown'",
        "'Forbidden'",
        "'InternalServerError'",
    ]
    for kind in ("recovery never fails", "anything fails"):
        for seed in range(16):
            text = "\n".join(run(seed, KINDS[kind]).trace)
            seen.update(sign for sign in signs if sign in text)
    assert [sign for sign in signs if sign not in seen] == []
