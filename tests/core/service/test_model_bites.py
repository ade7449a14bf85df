"""The model of the service bites: services that each break one rule do not pass for good ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.core.service.test_model import ServiceAgainstModel

from limpet_core.service import Connection, GroupRules, Publication, ServiceCore
from limpet_core.service import core as service_core
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.registry import Registry


def broken(target: type, name: str) -> Callable[[Any], None]:
    """A method that does nothing."""
    return lambda patch: patch.setattr(target, name, lambda *_, **__: None)


def changed(target: type, name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A method that is made of the right one."""
    return lambda patch: patch.setattr(target, name, make(getattr(target, name)))


FAULTS = {
    "acks are forgotten": broken(Connection, "remember"),
    "nothing is acknowledged": broken(Connection, "acknowledge"),
    "one too many is acknowledged": changed(
        Connection, "acknowledge", lambda right: lambda self, sequence_id: right(self, sequence_id + 1)
    ),
    "the dead stay in their groups": changed(
        Hub,
        "remove",
        lambda right: lambda self, connection: (connection.groups.pop("red", None), right(self, connection)),
    ),
    "leaving is not possible": broken(Hub, "leave"),
    "nobody is revoked anything": broken(GroupRules, "revoke"),
    "all may do all": changed(GroupRules, "allows", lambda right: lambda self, group: True),
    "the excluded hear as well": changed(
        service_core, "select", lambda right: lambda connections, where=None, excluded=(): right(connections, where)
    ),
    "the sender hears its own": changed(
        Registry,
        "deliver",
        lambda right: lambda self, receivers, publication, left_out=None: right(self, receivers, publication),
    ),
    "nothing expires": changed(
        Publication,
        "__init__",
        lambda right: lambda self, *how: right(self, *how[:4]),
    ),
    "nobody is too slow": changed(
        Connection, "deliver", lambda right: lambda self, publication: right(self, publication) or True
    ),
    "windows are too long": changed(
        Registry, "detach", lambda right: lambda self, connection, now: right(self, connection, now + 5.0)
    ),
    "an old token is no good": changed(
        ServiceCore,
        "recover",
        lambda right: lambda self, hub, name, token, now: right(self, hub, name, token.replace("/1", "-"), now),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_model_notices(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    quick = settings(max_examples=500, stateful_step_count=40, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(ServiceAgainstModel, settings=quick)
