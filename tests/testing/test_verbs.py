"""The service over sockets and the service in memory have the same verbs."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

from limpet.testing import BackgroundService, VirtualService
from limpet.testing._verbs import ServiceVerbs

VERBS = [name for name, member in vars(ServiceVerbs).items() if inspect.isfunction(member) and name[0] != "_"]


def parameters(function: Any) -> dict[str, tuple[object, ...]]:
    types = typing.get_type_hints(function)
    return {
        name: (parameter.kind, parameter.default, types.get(name))
        for name, parameter in inspect.signature(function).parameters.items()
    } | {"return": (types["return"],)}


@pytest.mark.parametrize("service", [BackgroundService, VirtualService])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_takes_the_same_arguments_and_returns_the_same(verb: str, service: type[object]) -> None:
    wanted, there = parameters(getattr(ServiceVerbs, verb)), parameters(getattr(service, verb))
    assert {name: there.get(name) for name in wanted} == wanted
    assert all(there[name][1] is not inspect.Parameter.empty for name in there.keys() - wanted), "more only by choice"


def test_no_verb_that_both_have_is_left_out() -> None:
    both = vars(BackgroundService).keys() & set(dir(VirtualService))
    assert {name for name in both if name[0] != "_" and name != "log"} == set(VERBS)
