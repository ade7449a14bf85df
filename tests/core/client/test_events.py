"""The events: a closed union of small frozen values."""

from __future__ import annotations

import ast
import inspect
from typing import get_args

import msgspec
import pytest

import limpet
from limpet import Acked, Connected, Event, GroupMessage, Message, ServerMessage
from limpet_core.client import events

NAMED = [
    "Acked",
    "Connected",
    "ConnectionFailed",
    "Disconnected",
    "GroupMessage",
    "GroupStatesChanged",
    "Invoked",
    "MessagesMissed",
    "Recovered",
    "Recovering",
    "RejoinGroupFailed",
    "ServerMessage",
    "Stopped",
    "StreamClosed",
    "StreamOpened",
    "StreamProgress",
]


def test_the_union_holds_every_event_and_nothing_else() -> None:
    assert sorted(kind.__name__ for kind in get_args(Event)) == NAMED
    assert set(get_args(Message)) == {GroupMessage, ServerMessage}


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_events_are_frozen_documented_and_exported(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__doc__
    assert getattr(limpet, kind.__name__) is kind
    assert kind.__module__ == "limpet"


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_field_of_an_event_is_documented(kind: type[msgspec.Struct]) -> None:
    if kind is ServerMessage:
        return  # its docstring points to that of GroupMessage
    for field in kind.__struct_fields__:
        assert f"{field}:" in (kind.__doc__ or "") or field == "type", field


def test_events_are_values() -> None:
    assert Connected("c1", "ann") == Connected("c1", "ann")
    assert repr(Connected("c1", "ann")) == "Connected(connection_id='c1', user_id='ann')"
    with pytest.raises(AttributeError):
        Acked(1).ack_id = 2  # type: ignore[misc]


def test_messages_can_be_made_by_hand_and_show_what_is_not_the_default() -> None:
    message = GroupMessage(group="g", data="hi", data_type="text")
    assert repr(message) == "GroupMessage(group='g', data='hi', data_type='text')"
    assert repr(ServerMessage(data=7, sequence_id=1)) == "ServerMessage(data=7, sequence_id=1)"


def test_events_import_nothing_but_errors_and_messages() -> None:
    tree = ast.parse(inspect.getsource(events))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {
        "__future__",
        "typing",
        "limpet_core.errors",
        "limpet_core.protocol.messages",
        "limpet_core.protocol.typed_data",
    }
