"""A refused handshake whose body does not come, for every client with its own WebSocket."""

from __future__ import annotations

import pytest
from tests.helpers.clients import CLIENTS, talk

from limpet import ConnectError
from limpet.testing.contract.checks._not_a_service import NotAService


@pytest.mark.parametrize("client", CLIENTS)
def test_a_body_that_does_not_come_hides_neither_status_nor_delay(client: str) -> None:
    head = b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 99\r\n\r\nout of "
    with NotAService(head, hangs_up=False) as server, pytest.raises(ConnectError, match="HTTP status 503") as caught:
        talk(client, server.url)
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)
