"""The commands in the log of a cluster, and their encoding.

All nodes read them: a field that is added, or read in another way, needs another ``FORMAT``.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from limpet_core.service.data_plane.writes import Write
from limpet_core.service.webhooks.answers import Answer, Failure, FailureKind, Headers, Outcome
from limpet_core.service.webhooks.handlers import HandlerCall
from limpet_core.service.wire.raw import RawMode

FORMAT: Final = 1
"""The version of the encoding of entries and commands."""

MAX_DATA: Final = 3 * 1024 * 1024
"""Bytes of the largest message, and of the largest answer of an event handler, in a cluster.

The adapters' logs take entries of 4 MiB: 1 MiB is left for the rest of such a command, and for its envelope.
"""

_Unsigned: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class UnreadableEntry(ValueError):
    """An entry of the log is none; the message says why."""


class ForeignEntry(UnreadableEntry):
    """An entry of the log was written by a release that has another format."""


class _Command(msgspec.Struct, frozen=True, array_like=True):
    pass


class Handed(_Command, frozen=True):
    """What an event handler has said of a client before its connection began.

    Attributes:
        state: the connection state; ``None``: none was set.
        cookies: by host and name.
    """

    state: str | None
    cookies: dict[str, dict[str, str]]


class Open(_Command, frozen=True, tag=1):
    """A client has connected.

    Attributes:
        number: that of the attachment, unique at its node.
        raw: the mode of the client if it is a raw one.
        handed: ``None``: no handler was asked.
        most: connections of the whole service, at most; ``None``: any number.
    """

    connection_id: str
    number: _Unsigned
    hub: str
    subprotocol: str | None
    user_id: str | None
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    raw: RawMode
    handed: Handed | None = None
    most: int | None = None


class Recover(_Command, frozen=True, tag=2):
    """A client has come back to a connection, with a token for it."""

    connection_id: str
    number: _Unsigned
    hub: str


class Received(_Command, frozen=True, tag=3):
    """A client has sent a message: text, as UTF-8, in a text frame, or bytes in a binary one."""

    connection_id: str
    number: _Unsigned
    data: bytes
    is_text: bool

    @classmethod
    def of(cls, connection_id: str, number: int, data: str | bytes) -> Received:
        """Return the command for a message as :meth:`ServiceCore.receive` takes it."""
        if isinstance(data, str):
            # Lone surrogates cannot come from a WebSocket, but from other callers.
            return cls(connection_id, number, data.encode("utf-8", "surrogatepass"), True)
        return cls(connection_id, number, data, False)

    @property
    def message(self) -> str | bytes:
        """The message as the client has sent it."""
        return self.data.decode("utf-8", "surrogatepass") if self.is_text else self.data


class SequenceAcks(_Command, frozen=True, tag=4):
    """Clients have acknowledged messages: for each the connection id, the number of its attachment, the sequence id."""

    acks: list[tuple[str, _Unsigned, _Unsigned]]


class Gone(_Command, frozen=True, tag=5):
    """A client's WebSocket is over: closed by the client with this code and reason, or lost (1006).

    Attributes:
        broken: the node has closed it, since the client broke the WebSocket protocol.
    """

    connection_id: str
    number: _Unsigned
    code: _Unsigned
    reason: str = ""
    broken: bool = False


class Overrun(_Command, frozen=True, tag=6):
    """The node of a client ends its connection.

    Attributes:
        why: ``full``: the client does not read or acknowledge what waits for it; ``ahead``: it has acknowledged a
            message that it was never sent, so the log has lost what it was told; ``too large``: it has sent a message
            that is too large for the log, too.
    """

    connection_id: str
    number: _Unsigned
    why: Literal["full", "ahead", "too large"]


class Ask(_Command, frozen=True, tag=7):
    """An application server asks for an operation; ``number`` is that of the request, unique at its node."""

    number: _Unsigned
    write: Write


class CallEnded(_Command, frozen=True, tag=8):
    """A call of an event handler has ended.

    Attributes:
        call: the number of the call, the same at all nodes.
        delivered: whether an attempt may have reached the handler.
        attempts: the number of attempts.
        duration: seconds of all attempts.
        status, headers, body: of the answer; a status of 0: there is none.
        kind, text: why there is no answer.
    """

    call: _Unsigned
    delivered: bool
    attempts: _Unsigned
    duration: float
    status: _Unsigned = 0
    headers: Headers = ()
    body: bytes = b""
    kind: FailureKind = "broken"
    text: str = ""

    @classmethod
    def of(cls, number: int, call: HandlerCall, outcome: Outcome) -> CallEnded:
        """Return the command for the outcome of a call."""
        told = (number, call.delivered, call.attempts, call.duration)
        if isinstance(outcome, Answer):
            return cls(*told, outcome.status, outcome.headers, outcome.body)
        return cls(*told, kind=outcome.kind, text=outcome.text)

    @property
    def outcome(self) -> Outcome:
        """The outcome as the event handlers' part of the service has it."""
        return Answer(self.status, self.headers, self.body) if self.status else Failure(self.kind, self.text)


class Hello(_Command, frozen=True, tag=9):
    """A node has come.

    Attributes:
        settings: a digest of what must be the same at all nodes: limits, access keys, event handlers.
        oldest: the first behaviour of the service that the node's release has.
        newest: the last one.
        name: for people, such as a host name.
    """

    settings: bytes
    oldest: _Unsigned
    newest: _Unsigned
    name: str


class Beat(_Command, frozen=True, tag=10):
    """A node is alive, and time has passed."""


class Dead(_Command, frozen=True, tag=11):
    """A node has not been heard of for a while; void if its newest entry has another counter than this."""

    node: str
    counter: _Unsigned


class Leave(_Command, frozen=True, tag=12):
    """A node ends in good order; its clients come back to other nodes."""


class Fork(_Command, frozen=True, tag=13):
    """The log has forgotten entries that clients were told of: all connections end."""


class Activate(_Command, frozen=True, tag=14):
    """All nodes behave as this version of the service from now on; void if a node cannot."""

    behaviour: _Unsigned


class Compare(_Command, frozen=True, tag=15):
    """All nodes compute a digest of their state at this place."""


class Digest(_Command, frozen=True, tag=16):
    """The digest of a node's state at the place of a :class:`Compare`, which has this number."""

    number: _Unsigned
    value: bytes


Command: TypeAlias = (
    Open
    | Recover
    | Received
    | SequenceAcks
    | Gone
    | Overrun
    | Ask
    | CallEnded
    | Hello
    | Beat
    | Dead
    | Leave
    | Fork
    | Activate
    | Compare
    | Digest
)
"""Any command."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the log: commands of one node.

    Attributes:
        node: the name of one run of one node, which no other run has.
        counter: 1, 2, 3, ...: an entry that comes a second time has one that was there.
    """

    node: str
    counter: _Unsigned
    commands: list[Command]


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    format: int
    entry: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_envelope_decoder = msgspec.msgpack.Decoder(_Envelope)
_entry_decoder = msgspec.msgpack.Decoder(Entry)


def encode(command: Command) -> bytes:
    """Encode one command, for :func:`envelop`."""
    return _encoder.encode(command)


def envelop(node: str, counter: int, commands: list[bytes]) -> bytes:
    """Return an entry of encoded commands, to be appended to the log."""
    return _encoder.encode((FORMAT, (node, counter, [msgspec.Raw(command) for command in commands])))


def decode(data: bytes) -> Entry:
    """Decode an entry.

    Raises:
        ForeignEntry: if it was written by a release with another format.
        UnreadableEntry: if it is no entry at all.
    """
    try:
        envelope = _envelope_decoder.decode(data)
        if envelope.format != FORMAT:
            raise ForeignEntry(f"it has format {envelope.format}, and this release reads format {FORMAT}")
        return _entry_decoder.decode(envelope.entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableEntry(str(error)) from None
