"""The chat of Web PubSub (preview): rooms, conversations, their messages and roles. This service does not have it.

Who asks for it is told so at once, over REST as by an invocation, instead of waiting or of being taken for something
else.
"""

from __future__ import annotations

from typing import Final

INVOCATIONS: Final = frozenset(
    {
        "chat.createroom",
        "chat.getroom",
        "chat.getuserproperties",
        "chat.joinroom",
        "chat.listuserconversation",
        "chat.login",
        "chat.manageroommember",
        "chat.querymessagehistory",
        "chat.sendtextmessage",
    }
)
"""The events that the chat client of the samples invokes, in lower case."""


def not_implemented(asked: str) -> str:
    """Return the text of the error for an operation of the chat."""
    return (
        f"501: {asked} belongs to the chat of Web PubSub (preview), which this local service does not have. "
        "Its groups, events, invocations and states of groups work; test the chat itself with the cloud."
    )
