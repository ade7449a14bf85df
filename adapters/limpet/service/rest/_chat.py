"""The operations of the chat of Web PubSub, which this service does not have."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import urlsplit

from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.wire.chat import not_implemented
from limpet_core.text import one_line


def refuse_chat(method: str, url: str) -> NoReturn:
    """Tell who asks for the chat, with the HTTP method and the URL, that there is none."""
    raise OperationError(501, "NotImplemented", not_implemented(one_line(f"{method} {urlsplit(url).path}")))
