"""Each attribute of each class of the service is accounted for: whoever adds one says what a snapshot does with it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator

import msgspec
import pytest
from tests.core.service.cluster.account import ACCOUNT, VALUES

import limpet_core.service
from limpet_core.service.connections.transport import Transport

STATELESS = (
    # What clients and servers send, and how it is read, checked and encoded.
    "access.audiences", "access.tokens", "data_plane.", "odata.", "webhooks.answers", "webhooks.cloud_events",
    "webhooks.listeners", "wire.",
    # What people and pages see.
    "connections.limits", "connections.observers", "connections.snapshot", "connections.totals", "trace",
    # The log, the snapshot itself, and what a node has for itself.
    "cluster.acknowledgements", "cluster.commands", "cluster.openings", "cluster.outgoing", "cluster.overruns",
    "cluster.records", "cluster.replica", "cluster.restoring", "cluster.rollout", "cluster.saving", "cluster.silence",
    "cluster.snapshot", "cluster.waiting", "webhooks.calls",
)  # fmt: skip
"""Modules whose classes hold nothing that a snapshot has, but for those in the account."""

OTHERS = {
    "ApplicationInputs": "a part of ReplicatedCore",
    "Backlog": "kept for connections of other nodes; each takes its messages before its state is looked at",
    "ServiceCore": "a part of ReplicatedCore",
    "ClientCall": "what EventCall and InvocationCall have in common",
    "Decided": "a result, which is acted on at once",
    "EventHandler": "settings",
    "EventSettings": "settings",
    "Handled": "a result, which is acted on at once",
    "PendingConnect": "a client that waits at its node, before the log hears of it",
    "Transport": "an attachment of this node",
}


def classes() -> Iterator[type]:
    prefix = "limpet_core.service."
    for module in pkgutil.walk_packages(limpet_core.service.__path__, prefix):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                yield value


def attributes(cls: type) -> set[str]:
    """Return the attributes of a class and its bases: fields, slots, and those that methods set."""
    if issubclass(cls, msgspec.Struct):
        return set(cls.__struct_fields__)
    found: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.startswith(("limpet_core.", "tests.")):
            found.update(vars(base).get("__slots__", ()))
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
            found.update(
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            )
    return found


@pytest.mark.parametrize("cls", ACCOUNT, ids=lambda cls: cls.__name__)
def test_each_attribute_is_accounted_for(cls: type) -> None:
    assert attributes(cls) == set(ACCOUNT[cls])


def test_each_class_is_accounted_for() -> None:
    prefix = "limpet_core.service."
    missing = [
        f"{cls.__module__}.{cls.__name__}"
        for cls in classes()
        if cls not in ACCOUNT
        and cls not in VALUES
        and cls.__name__ not in OTHERS
        and not issubclass(cls, Exception)
        and not getattr(cls, "_is_protocol", False)
        and not cls.__module__.removeprefix(prefix).startswith(STATELESS)
    ]
    assert missing == []


def test_a_transport_has_nothing_of_its_own_that_others_know() -> None:
    own = attributes(Transport) - {"connection", "place"}
    assert own == {
        "_bytes", "_max_bytes", "_max_frames", "_outbox", "_replayed", "_waiting", "acknowledged", "close", "expiring",
        "ready", "replayed_to",
    }  # fmt: skip


def test_the_account_sees_an_attribute_that_somebody_adds() -> None:
    class Grown:
        __slots__ = ("new",)

        def __init__(self) -> None:
            self.new = 1

    assert attributes(Grown) == {"new"}
