"""Clients without a subprotocol of ours: each of their messages is nothing but a payload."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from limpet_core.protocol.names import is_group_name
from limpet_core.service.wire.from_client import Event, ProtocolViolation, SendToGroup

__all__ = ["InvalidQuery", "RawMode"]

_EVENT = "message"


class InvalidQuery(ValueError):
    """The query of a client asks for something that does not exist; the message says what."""


class RawMode(msgspec.Struct, frozen=True):
    """What becomes of the messages of a raw client (Azure docs, client protocols).

    They are published to ``group``, with ``no_echo`` not to the client itself; without a group each is an event
    called ``message``.
    """

    group: str | None = None
    no_echo: bool = False

    @classmethod
    def from_query(cls, query: Mapping[str, Sequence[str]]) -> RawMode:
        """Read ``webpubsub_mode``, ``group`` and ``noEcho``; the last of repeated ones counts (emulator).

        Raises `InvalidQuery`, to be answered with HTTP 400 whatever the subprotocol.
        """
        mode = _last(query, "webpubsub_mode").lower() or "sendevent"
        if mode not in ("sendevent", "sendtogroup"):
            raise InvalidQuery("webpubsub_mode is sendEvent or sendToGroup")
        no_echo = _last(query, "noEcho").lower() or "false"
        if no_echo not in ("true", "false"):
            raise InvalidQuery("noEcho is true or false")
        if mode == "sendevent":
            return cls()
        group = _last(query, "group")
        if not is_group_name(group):
            raise InvalidQuery("webpubsub_mode=sendToGroup needs a group, of 1 to 1024 characters")
        return cls(group, no_echo == "true")

    def message(self, data: str | bytes) -> Event | SendToGroup:
        """Return what a client asks for with the payload of a text frame (`str`) or a binary one.

        Raises `ProtocolViolation` for text that is not valid Unicode.
        """
        text = data if isinstance(data, str) else binascii.b2a_base64(data, newline=False).decode()
        data_type: Literal["text", "binary"] = "text" if isinstance(data, str) else "binary"
        try:
            encoded = msgspec.Raw(msgspec.json.encode(text))
        except UnicodeEncodeError:
            raise ProtocolViolation("the message is not valid UTF-8") from None
        if self.group is None:
            return Event(_EVENT, data_type=data_type, data=encoded)
        return SendToGroup(self.group, no_echo=self.no_echo, data_type=data_type, data=encoded)


def _last(query: Mapping[str, Sequence[str]], name: str) -> str:
    values = query.get(name)
    return values[-1] if values else ""
