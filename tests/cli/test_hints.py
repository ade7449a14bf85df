"""What the command line says to people who are new to it: mistakes are told with what to do about them."""

from __future__ import annotations

import click
import pytest
from tests.helpers.command_line import limpet, running

from limpet.cli.commands import cli

_NOWHERE = "ws://127.0.0.1:1/client/hubs/chat"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("--url", _NOWHERE), "a client URL names its hub and its user itself"),
        (("--negotiate", "http://127.0.0.1:1/negotiate"), "the application chooses the hub and the user"),
    ],
)
@pytest.mark.parametrize("option", ["--hub", "--user"])
def test_a_hub_or_a_user_that_nothing_would_use_is_refused(place: tuple[str, ...], said: str, option: str) -> None:
    failed = limpet("pub", *place, option, "ann", "room", "hello")
    assert failed.returncode == 2
    assert f"{option} is for --connection-string: {said}" in failed.stderr


def test_a_place_in_the_environment_is_named_where_an_option_has_no_effect_with_it() -> None:
    failed = limpet("pub", "--hub", "chat", "room", "hello", LIMPET_URL=_NOWHERE)
    assert failed.returncode == 2
    assert "names its hub and its user itself (LIMPET_URL)" in failed.stderr


@pytest.mark.parametrize("place", [("--url", _NOWHERE), ("--connection-string", "Endpoint=http://127.0.0.1:1")])
def test_a_header_that_nobody_gets_is_refused(place: tuple[str, str]) -> None:
    failed = limpet("pub", *place, "--negotiate-header", "Authorization: Bearer 1", "room", "hello")
    assert failed.returncode == 2
    assert f"--negotiate-header is for --negotiate: with {place[0]} nobody is asked" in failed.stderr


def test_a_user_goes_with_a_connection_string(service: dict[str, str]) -> None:
    sent = limpet(
        "pub", "--user", "ann", "--hub", "chat", "room", "x", LIMPET_CONNECTION_STRING=service["connection_string"]
    )
    assert sent.returncode == 0, sent.stderr


@pytest.mark.parametrize("command", [("pub", "room"), ("invoke", "order")])
def test_data_that_looks_like_an_option(command: tuple[str, str]) -> None:
    failed = limpet(*command, "--url", _NOWHERE, "-5")
    assert failed.returncode == 2
    assert "No such option" in failed.stderr
    assert "DATA that begins with '-' goes after '--'" in failed.stderr


def test_an_option_that_is_misspelt_is_no_data() -> None:
    failed = limpet("pub", "--uri", _NOWHERE, "room", "hello")
    assert failed.returncode == 2
    assert "--url" in failed.stderr
    assert "DATA" not in failed.stderr.partition("Error:")[2]


def test_a_group_without_states(service: dict[str, str]) -> None:
    with running("state", "-c", service["connection_string"], "empty") as process:
        assert process.stderr is not None
        assert "connected as" in process.stderr.readline()
        assert process.stderr.readline() == "-- nobody has a state in empty; each change is printed\n"


def test_every_option_has_a_help() -> None:
    without = [
        f"{name} {each.opts[0]}"
        for name in cli.commands
        for each in cli.commands[name].params
        if isinstance(each, click.Option) and not each.help
    ]
    assert without == []
