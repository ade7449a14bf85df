"""Raw clients: those without a subprotocol of Web PubSub. Each of their messages is only a payload."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from limpet_core.protocol.names import is_group_name
from limpet_core.service.wire.from_client import ProtocolViolation
from limpet_core.service.wire.requests import Event, SendToGroup

_EVENT = "message"


class InvalidQuery(ValueError):
    """The query of a client has an unknown value; the message says which."""


class RawMode(msgspec.Struct, frozen=True):
    """The meaning of a raw client's messages (Azure docs, client protocols).

    Attributes:
        group: each message is published to this group; ``None``: each is an event called ``message``.
        no_echo: do not deliver the client's messages to itself.
    """

    group: str | None = None
    no_echo: bool = False

    @classmethod
    def from_query(cls, query: Mapping[str, Sequence[str]]) -> RawMode:
        """Read ``webpubsub_mode``, ``group`` and ``noEcho``; the last of repeated values counts (emulator).

        Names are case-insensitive, and a mode ignores the parameters that it does not use (emulator).

        Raises:
            InvalidQuery: for an unknown value. Answer with HTTP 400, whatever the subprotocol.
        """
        query = {name.lower(): values for name, values in query.items()}
        mode = _last(query, "webpubsub_mode").lower() or "sendevent"
        if mode not in ("sendevent", "sendtogroup"):
            raise InvalidQuery("webpubsub_mode is sendEvent or sendToGroup")
        if mode == "sendevent":
            return cls()
        no_echo = _last(query, "noecho").lower() or "false"
        if no_echo not in ("true", "false"):
            raise InvalidQuery("noEcho is true or false")
        group = _last(query, "group")
        if not is_group_name(group):
            raise InvalidQuery("webpubsub_mode=sendToGroup needs a group, of 1 to 1024 characters")
        return cls(group, no_echo == "true")

    def message(self, data: str | bytes) -> Event | SendToGroup:
        """Return the request that stands for the payload of a text frame (``str``) or a binary frame (``bytes``).

        Raises:
            ProtocolViolation: for text that is not valid Unicode.
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
