"""Clients come in: subprotocols, tokens, who they are."""

from __future__ import annotations

import pytest
from tests.interop.clients import KINDS
from tests.interop.stage import Stage


@pytest.mark.parametrize("reliable", [True, False], ids=["reliable", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_client_connects_in_each_of_its_subprotocols(stage: Stage, kind: str, reliable: bool) -> None:
    client = stage.open(kind, "ann", reliable=reliable)
    [connected] = client.events.of("connected")
    assert connected["userId"] == "ann"
    connection = stage.backend.connection(connected["connectionId"])
    assert connection is not None
    assert connection.reliable is reliable
    client.stop()
    client.events.wait("stopped")


@pytest.mark.parametrize("kind", KINDS)
def test_an_anonymous_client_has_no_user(stage: Stage, kind: str) -> None:
    client = stage.open(kind, None)
    assert client.events.of("connected") == [{"connectionId": client.connection_id, "userId": None}]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_tokens_are_refused_before_the_upgrade(stage: Stage, kind: str) -> None:
    good = stage.service(kind).client_url("ann")
    for url in (
        stage.service(kind, hub="other").client_url("ann").replace("/hubs/other", "/hubs/chat"),
        stage.service(kind).client_url("ann", minutes=-10),
        good.partition("?")[0],
        good[:-4] + "AAAA",
    ):
        with pytest.raises(ConnectionError, match="401"):
            stage.client(kind, url=url).start()
