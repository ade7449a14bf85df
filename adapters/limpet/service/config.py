"""Options of the local service from a TOML file and from the command line."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from limpet.service.options import HubOptions, ServiceOptions
from limpet_core.service import EventHandler, EventListener

_NAMES = ("user-events", "system-events")
_SETTINGS = (*_NAMES, "timeout", "retries", "retry-delays", "resend")


def load_options(path: str | os.PathLike[str]) -> ServiceOptions:
    """Read options from a TOML file: those of :class:`ServiceOptions`, :class:`HubOptions` and :class:`EventHandler`.

    ::

        recovery_window = 60

        [hubs.chat]
        anonymous = true

        [[hubs.chat.event_handlers]]
        url = "http://localhost:3000/{hub}/{event}"
        user_events = ["*"]
        system_events = ["connect", "connected", "disconnected"]
        retry_delays = [1, 3, 5]
        resend = "always"

        [[hubs.chat.event_listeners]]
        event_hub = "events"
        connection_string = "Endpoint=sb://localhost;...;UseDevelopmentEmulator=true"
        user_events = ["*"]
        system_events = ["connected", "disconnected"]

    Raises:
        ValueError: for unusable contents; the message is one line with the file's name.
        OSError: if the file cannot be read.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
        if text.lstrip().startswith("{"):
            # The emulator has its settings in appsettings.json.
            raise ValueError("this is JSON, and options are TOML, such as [[hubs.chat.event_handlers]]")
        table = tomllib.loads(text)
        _check_names(table)
        return msgspec.convert(table, ServiceOptions)
    except RecursionError:
        raise ValueError(f"{os.fspath(path)}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def _check_names(table: Mapping[str, Any]) -> None:
    """Refuse unknown names, which would be ignored otherwise."""
    if "cluster" in table:
        raise ValueError(
            "the nodes of a cluster share this file, so it does not name one: give --cluster, or Service(cluster=...)"
        )
    _check_keys(table, _names(ServiceOptions), "")
    hubs = table.get("hubs")
    if isinstance(hubs, dict):
        for hub, special in cast("dict[str, object]", hubs).items():
            if isinstance(special, dict):
                _check_hub(cast("dict[str, object]", special), f" of hub {hub!r}")


def _check_hub(table: Mapping[str, object], where: str) -> None:
    _check_keys(table, _names(HubOptions), where)
    for name, kind in (("event_handlers", EventHandler), ("event_listeners", EventListener)):
        several = table.get(name)
        for each in cast("list[object]", several) if isinstance(several, list) else ():
            if isinstance(each, dict):
                _check_keys(cast("dict[str, object]", each), kind.__struct_fields__, f" in the {name}{where}")


def _names(options: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(options)]


def _check_keys(table: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"there is no option {key!r}{where}; there are {', '.join(known)}")


def parse_event_handler(text: str) -> tuple[str, HubOptions]:
    """Parse ``HUB=URL;user-events=A,B;system-events=connect;timeout=5``; all but the first part are optional.

    The settings are those of :class:`EventHandler`, with a hyphen for an underscore; the others are ``retries=0``,
    ``retry-delays=1,3,5`` and ``resend=safe``.

    Returns:
        The name of the hub, and its options.

    Raises:
        ValueError: for any other text.
    """
    address, *listed = text.split(";")
    hub, _, url = address.partition("=")
    if not hub or not url:
        # The text itself may be a URL with a secret in it.
        raise ValueError("an event handler is HUB=URL, such as chat=http://localhost:3000/{event}")
    settings: dict[str, Any] = {}
    for setting in listed:
        name, separator, value = setting.strip().partition("=")
        if name in _SETTINGS and not separator:
            raise ValueError(f"the setting {name!r} of an event handler needs a value")
        if name not in _SETTINGS:
            # Only a name is told: a semicolon in a URL makes a setting of what may be a secret.
            shown = repr(name) if separator and name.replace("-", "").isalpha() else "what is behind a semicolon"
            raise ValueError(f"{shown} is not a setting of an event handler; there are {', '.join(_SETTINGS)}")
        settings[name.replace("-", "_")] = _setting(name, value)
    return hub, HubOptions(event_handlers=(EventHandler(url=url, **settings),))


def _setting(name: str, value: str) -> object:
    listed = [part.strip() for part in value.split(",") if part.strip()]
    kind = "a number of seconds"
    try:
        if name == "timeout":
            return float(value)
        if name == "retries":
            kind = "a whole number"
            return int(value)
        if name == "retry-delays":
            return tuple(map(float, listed))
    except ValueError:
        raise ValueError(f"{name} is {kind}, not {value!r}") from None
    return tuple(listed) if name in _NAMES else value.strip()


def with_hubs(options: ServiceOptions, hubs: Iterable[tuple[str, HubOptions]]) -> ServiceOptions:
    """Return ``options`` with additional options of hubs. Event handlers are put in front of those already there.

    Raises:
        ValueError: for an illegal hub name.
    """
    combined = dict(options.hubs)
    spelled = {hub.lower(): hub for hub in combined}
    for hub, added in hubs:
        name = spelled.setdefault(hub.lower(), hub)
        known = combined.get(name, HubOptions())
        combined[name] = HubOptions(
            anonymous=known.anonymous or added.anonymous,
            event_handlers=added.event_handlers + known.event_handlers,
            event_listeners=added.event_listeners + known.event_listeners,
        )
    return dataclasses.replace(options, hubs=combined)
