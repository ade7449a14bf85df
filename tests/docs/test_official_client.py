"""The page for users of the official client has each public name of that package, and only names that exist here."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import azure.messaging.webpubsubclient as official
import pytest
from azure.messaging.webpubsubclient import aio, models
from tests.docs.pages import rows, section

import limpet
import limpet.asyncio
import limpet.sync

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "from-the-official-client.md").read_text("utf-8")
EVENTS = {name for name in models.__all__ if name.startswith("On")}


def first_names(heading: str) -> list[str]:
    return [row[0].strip("`") for row in rows(section(PAGE, heading))]


def public(kind: type[Any]) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_every_name_of_the_package_and_of_its_client() -> None:
    assert sorted(first_names("The client")) == sorted({*official.__all__, *public(official.WebPubSubClient)})
    assert set(aio.__all__) == set(official.__all__)
    assert public(aio.WebPubSubClient) == public(official.WebPubSubClient)


def test_every_option() -> None:
    for client in (official.WebPubSubClient, aio.WebPubSubClient):
        options = [name for name in inspect.signature(client).parameters if name != "kwargs"]
        assert sorted(first_names("Options")) == sorted(options)


def test_every_event() -> None:
    members = {f"CallbackType.{member.name}" for member in models.CallbackType}
    assert sorted(first_names("Events")) == sorted({*members, *EVENTS})


def test_every_other_type() -> None:
    assert sorted(first_names("Types and errors")) == sorted(set(models.__all__) - EVENTS)


@pytest.mark.parametrize("heading", ["The client", "Options", "Events", "Types and errors"])
def test_every_name_here_exists(heading: str) -> None:
    client = limpet.sync.Client
    for _, here, difference in rows(section(PAGE, heading)):
        for name in re.findall(r"`([\w.]+)", f"{here} {difference}"):
            if re.fullmatch(r"[a-z_]+|limpet\.frames|limpet\.(sync|asyncio)\.Client", name):
                continue  # a method, an attribute or an argument: below
            kind, _, attribute = name.partition(".")
            if kind != "client" and kind != "Client":
                assert not attribute or attribute in dir(getattr(limpet, kind)) or attribute in annotations(kind), name
                assert hasattr(limpet, kind) or hasattr(limpet.State, kind), name
            else:
                assert not attribute or attribute in dir(client), name


def annotations(kind: str) -> set[str]:
    return set(inspect.signature(getattr(limpet, kind)).parameters)


def test_the_methods_and_fields_exist() -> None:
    for row in rows(section(PAGE, "The client")):
        if re.fullmatch(r"`[a-z_]+`", row[1]):
            assert hasattr(limpet.sync.Client, row[1].strip("`"))
            assert hasattr(limpet.asyncio.Client, row[1].strip("`"))
    for row in rows(section(PAGE, "Events")):
        if row[0].strip("`") in EVENTS:
            for field in re.findall(r"`(\w+)`", row[2]):
                assert field in dir(getattr(limpet, row[1].strip("`"))), field
    for field in ("ack_id", "name", "message", "outcome"):
        assert field in annotations("SendError")
    for field in ("status", "code"):
        assert field in annotations("ConnectError")
