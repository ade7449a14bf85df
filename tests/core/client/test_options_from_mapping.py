"""Options from TOML, JSON and the environment."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import JSON, Backoff, InvalidType, InvalidValue, Options

DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


def test_an_empty_mapping_is_the_defaults() -> None:
    assert Options.from_mapping({}) == Options()
    assert Options.from_mapping({"HOME": "/"}, prefix="LIMPET_") == Options()


def test_toml_and_json_have_the_types_of_the_options() -> None:
    toml = """
        protocol = "json.webpubsub.azure.v1"
        auto_reconnect = false
        ack_timeout = 5
        keepalive_interval = "none"
        max_pending_requests = 7
        [reconnect]
        initial = 0.5
        limit = 3
        [first_connection]
    """
    expected = Options(
        protocol=JSON,
        auto_reconnect=False,
        ack_timeout=5,
        keepalive_interval=None,
        max_pending_requests=7,
        reconnect=Backoff(initial=0.5, limit=3),
        first_connection=Backoff(),
    )
    assert Options.from_mapping(tomllib.loads(toml)) == expected
    assert Options.from_mapping(json.loads('{"ack_timeout": null, "first_connection": null}')) == Options(
        ack_timeout=None
    )
    assert Options.from_mapping({"retry": Backoff(limit=1)}) == Options(retry=Backoff(limit=1))


def test_variables_are_converted() -> None:
    environment = {
        "HOME": "/",
        "LIMPET_URL": "wss://example.test",
        "LIMPET_ACCESS_KEY": "secret",
        "LIMPET_LOG_LEVEL": "info",
        "LIMPET_PROTOCOL": " json.webpubsub.azure.v1 ",
        "LIMPET_RESEND": " always ",
        "LIMPET_AUTO_RECONNECT": "No",
        "LIMPET_ACK_TIMEOUT": "2.5",
        "LIMPET_REQUEST_TIMEOUT": "None",
        "LIMPET_MAX_STREAMS": "12",
        "LIMPET_RECONNECT__INITIAL": "0.1",
        "LIMPET_RECONNECT__LIMIT": "none",
        "LIMPET_FIRST_CONNECTION__LIMIT": "10",
    }
    assert Options.from_mapping(environment, prefix="LIMPET_") == Options(
        protocol=JSON,
        resend="always",
        auto_reconnect=False,
        ack_timeout=2.5,
        max_streams=12,
        reconnect=Backoff(initial=0.1),
        first_connection=Backoff(limit=10),
    )


def test_a_prefix_is_that_of_the_variable_letter_by_letter() -> None:
    others = {"limpet_max_streams": "3", "LIMPETS_MAX_STREAMS": "4", "MAX_STREAMS": "5"}
    assert Options.from_mapping(others, prefix="LIMPET_") == Options()


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({"ack_timout": 5}, "ack_timout is unknown: did you mean ack_timeout?"),
        ({"zzz": 5}, "zzz is unknown: there are protocol, auto_reconnect, "),
        ({"reconnect": {"intial": 5}}, "reconnect.intial is unknown: did you mean initial?"),
        ({"connect_timeout": -1}, "connect_timeout: connect_timeout must be more than 0 seconds; not -1"),
        ({"ack_timeout": "5"}, "ack_timeout: ack_timeout must be a number of type int or float, not str"),
        ({"auto_reconnect": 1}, "auto_reconnect: auto_reconnect must be a bool, not int"),
        ({"resend": "never"}, "resend: resend must be 'safe' or 'always', not 'never'"),
        ({"reconnect": 5}, "reconnect: it must have settings of its own (initial, maximum, multiplier, jitter, limit)"),
        ({"reconnect": None}, "reconnect: it must have settings of its own"),
        ({"reconnect": {"jitter": 2}}, "reconnect.jitter: jitter must be from 0 to 1, not 2"),
        ({"a\nb": 1}, "a\\nb is unknown"),
        ({1: 2}, "1 is unknown"),
        ({"reconnect": DEEP}, "reconnect: it must have settings of its own"),
        ({"protocol": DEEP}, "protocol: protocol must be "),
        ({"resend": DEEP}, "resend: resend must be 'safe' or 'always', not [[[["),
        ({"ack_timeout": 10**400}, "ack_timeout: ack_timeout is too large: an integer of 1329 bits"),
        ({"reconnect": {"initial": 10**400}}, "reconnect.initial: initial is too large"),
        ({"max_streams": -(10**5000)}, "max_streams: max_streams must be at least 1, not an integer of 16610 bits"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_key(mapping: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Options.from_mapping(mapping)
    assert str(caught.value).startswith(f"these options cannot be used: {text}")


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("LIMPET_ACK_TIMOUT", "5", "LIMPET_ACK_TIMOUT is unknown: did you mean ack_timeout?"),
        ("LIMPET_ACK_TIMEOUT", "soon", "LIMPET_ACK_TIMEOUT: it must be a number, not 'soon'"),
        ("LIMPET_ACK_TIMEOUT", "-1", "LIMPET_ACK_TIMEOUT: ack_timeout must be more than 0 seconds"),
        ("LIMPET_MAX_STREAMS", "1.5", "LIMPET_MAX_STREAMS: it must be a whole number, not '1.5'"),
        ("LIMPET_AUTO_RECONNECT", "maybe", "LIMPET_AUTO_RECONNECT: it must be true or false, not 'maybe'"),
        ("LIMPET_CONNECT_TIMEOUT", "none", "LIMPET_CONNECT_TIMEOUT: it must be a number, not 'none'"),
        (
            "LIMPET_RECONNECT",
            "5",
            "LIMPET_RECONNECT: it must have settings of its own (variables such as LIMPET_RECONNECT__INITIAL), not '5'",
        ),
        ("LIMPET_RECONNECT__JITTER", "2", "LIMPET_RECONNECT__JITTER: jitter must be from 0 to 1, not 2"),
        ("LIMPET_RECONNECT__JITER", "2", "LIMPET_RECONNECT__JITER is unknown: did you mean jitter?"),
        ("LIMPET_ACK_TIMEOUT__X", "2", "LIMPET_ACK_TIMEOUT"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_variable(variable: str, value: str, text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Options.from_mapping({variable: value}, prefix="LIMPET_")
    assert str(caught.value).startswith(f"these options cannot be used: {text}")


def test_one_error_tells_of_all_problems() -> None:
    with pytest.raises(InvalidValue) as caught:
        Options.from_mapping({"ack_timout": 5, "connect_timeout": -1, "retry": {"limit": -1}})
    assert str(caught.value) == (
        "these options cannot be used: ack_timout is unknown: did you mean ack_timeout?; "
        "retry.limit: limit must be at least 0, not -1; "
        "connect_timeout: connect_timeout must be more than 0 seconds; not -1"
    )


def test_a_setting_whose_own_settings_cannot_be_used_is_no_second_problem() -> None:
    with pytest.raises(InvalidValue) as caught:
        Options.from_mapping({"reconnect": {"jitter": 2, "limit": 3, "maximum": -1}})
    assert str(caught.value) == (
        "these options cannot be used: reconnect.jitter: jitter must be from 0 to 1, not 2; "
        "reconnect.maximum: maximum must be at least 1, not -1"
    )


LONG: list[tuple[dict[str, str], str]] = [
    ({"x" * 200: "1"}, ""),
    ({"X_" + "X" * 200: "1"}, "X_"),
    ({"X_" + "X" * 200 + "__X": "1"}, "X_"),
    ({"X_RECONNECT__" + "X" * 200: "1"}, "X_"),
]


@pytest.mark.parametrize(("mapping", "prefix"), LONG)
def test_a_long_name_is_shown_in_part(mapping: dict[str, str], prefix: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Options.from_mapping(mapping, prefix=prefix)
    name = str(caught.value).removeprefix("these options cannot be used: ").partition(" is unknown: ")[0]
    assert len(name) == 100
    assert name.endswith(" characters)")


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(InvalidValue) as caught:
        Options.from_mapping({"X_AUTO_RECONNECT": "x" * 70}, prefix="X_")
    text = "these options cannot be used: X_AUTO_RECONNECT: it must be true or false, not "
    assert len(str(caught.value).removeprefix(text)) == 60


def test_values_that_do_not_go_together_are_named_together() -> None:
    with pytest.raises(InvalidValue) as caught:
        Options.from_mapping({"reconnect": {"initial": 9.0, "maximum": 8}})
    assert str(caught.value) == (
        "these options cannot be used: reconnect.initial and reconnect.maximum: maximum must be at least 9, not 8"
    )


def test_a_variable_and_its_fields_do_not_go_together() -> None:
    environment = {"LIMPET_RECONNECT": "5", "LIMPET_RECONNECT__INITIAL": "5"}
    for order in (list(environment.items()), list(environment.items())[::-1]):
        with pytest.raises(InvalidValue, match="LIMPET_RECONNECT"):
            Options.from_mapping(dict(order), prefix="LIMPET_")


@pytest.mark.parametrize("mapping", [7, None, [("ack_timeout", 5)], "x"])
def test_a_mapping_is_needed(mapping: Any) -> None:
    kind = type(mapping).__name__
    with pytest.raises(InvalidType, match=rf"^mapping must be a mapping, such as a dict or os\.environ, not {kind}$"):
        Options.from_mapping(mapping)
    with pytest.raises(InvalidType, match=r"^prefix must be a str, not int$"):
        Options.from_mapping({}, prefix=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [b"LIMPET_ACK_TIMEOUT", 1, None])
def test_the_names_of_variables_are_text(name: Any) -> None:
    """Those of ``os.environb`` are not, and would all be passed over."""
    kind = type(name).__name__
    with pytest.raises(InvalidType, match=rf"^the names of variables must be str, as in os\.environ, not {kind}$"):
        Options.from_mapping({name: "5"}, prefix="LIMPET_")


HUGE = st.sampled_from([10**400, -(10**400)])
KEYS = st.sampled_from([field.name for field in msgspec.structs.fields(Options)]) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**6) | HUGE | st.floats() | st.sampled_from(["none", "1", "x", JSON]),
    lambda inner: st.dictionaries(
        st.sampled_from(["initial", "maximum", "multiplier", "jitter", "limit", "x"]), inner, max_size=3
    ),
    max_leaves=4,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_mapping_gives_options_or_one_clear_error(mapping: dict[str, Any]) -> None:
    assert_options_or_error(mapping, "")


@given(st.dictionaries(KEYS, st.text(max_size=6) | st.sampled_from(["1", "0.5", "true", "none"]), max_size=4))
def test_any_environment_gives_options_or_one_clear_error(variables: dict[str, str]) -> None:
    assert_options_or_error({f"X_{name.upper()}": value for name, value in variables.items()}, "X_")


def assert_options_or_error(mapping: dict[str, Any], prefix: str) -> None:
    text = ""
    try:
        options = Options.from_mapping(mapping, prefix=prefix)
    except InvalidValue as error:
        text = str(error)
    else:
        assert isinstance(options, Options)
    assert not text or text.startswith("these options cannot be used: ")
    assert "\n" not in text
