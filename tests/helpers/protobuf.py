"""Messages of the protobuf subprotocols, from and to the dicts that the JSON subprotocols have for the same.

Both ways go through Google's code alone, and not through what is tested.
"""

from __future__ import annotations

import base64
import json
from typing import Any, cast

from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict
from tests.helpers import frames

from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import (
    DownstreamMessage,
    MessageData,
    StreamInfo,
    UpstreamMessage,
)

_PADDING = 100
"""A field that nobody knows: it makes a message as long as the JSON that it was made of, which may begin or end with
spaces."""


def payload(fields: dict[str, Any]) -> MessageData | None:
    """The MessageData of ``data`` and ``dataType``; None without data."""
    if "data" not in fields:
        return None
    data = fields["data"]
    match fields.get("dataType", "json"):
        case "text":
            return MessageData(text_data=data)
        case "binary":
            return MessageData(binary_data=base64.b64decode(data))
        case "protobuf":
            return MessageData(protobuf_data=any_pb2.Any.FromString(base64.b64decode(data)))
        case _:
            return MessageData(json_data=json.dumps(data))


def downstream(message: dict[str, Any]) -> bytes:
    """A message of the service."""
    return _downstream(message).SerializeToString()


def _downstream(message: dict[str, Any]) -> DownstreamMessage:
    whole = DownstreamMessage()
    match message["type"]:
        case "message":
            data = whole.data_message
            setattr(data, "from", message["from"])
            if "group" in message:
                data.group = message["group"]
            if (content := payload(message)) is not None:
                data.data.CopyFrom(content)
            if message.get("sequenceId") is not None:
                data.sequence_id = message["sequenceId"]
            data.metadata.update(message.get("metadata") or {})
            if stream := message.get("stream"):
                data.stream.CopyFrom(
                    StreamInfo(
                        stream_id=stream["streamId"],
                        stream_sequence_id=stream["streamSequenceId"],
                        end_of_stream=stream.get("endOfStream"),
                    )
                )
                if error := stream.get("error"):
                    data.stream.error.name = error["name"]
                    data.stream.error.message = error.get("message", "")
                    data.stream.error.user_error_code = error.get("userErrorCode", "")
        case "ack":
            whole.ack_message.ack_id = message["ackId"] & (1 << 64) - 1
            whole.ack_message.success = message["success"]
            if error := message.get("error"):
                whole.ack_message.error.name = error["name"]
                whole.ack_message.error.message = error["message"]
        case "pong":
            whole.pong_message.SetInParent()
        case "streamAck":
            whole.stream_ack_message.stream_id = message["streamId"]
            whole.stream_ack_message.expected_sequence_id = message["expectedSequenceId"]
        case "streamNack":
            whole.stream_nack_message.stream_id = message["streamId"]
            whole.stream_nack_message.expected_sequence_id = message["expectedSequenceId"]
            whole.stream_nack_message.name = message.get("name", "")
            whole.stream_nack_message.message = message.get("message", "")
        case "streamClosed":
            whole.stream_closed_message.stream_id = message["streamId"]
            if error := message.get("error"):
                whole.stream_closed_message.error.name = error["name"]
                whole.stream_closed_message.error.message = error["message"]
        case _ if message["event"] == "connected":
            connected = whole.system_message.connected_message
            connected.connection_id = message["connectionId"]
            connected.user_id = message.get("userId") or ""
            if "reconnectionToken" in message:
                connected.reconnection_token = message["reconnectionToken"]
        case _:
            whole.system_message.disconnected_message.reason = message["message"]
    return whole


_UPSTREAM = {
    "sendToGroupMessage": "sendToGroup",
    "eventMessage": "event",
    "joinGroupMessage": "joinGroup",
    "leaveGroupMessage": "leaveGroup",
    "sequenceAckMessage": "sequenceAck",
    "pingMessage": "ping",
    "streamDataMessage": "streamData",
    "streamEndMessage": "streamEnd",
}
_NUMBERS = ("ackId", "sequenceId", "streamSequenceId")


def upstream(message: bytes) -> dict[str, Any]:
    """A message of a client, as it is in JSON; integers are ints."""
    parsed = UpstreamMessage.FromString(message)
    ((member, _),) = parsed.ListFields()
    content = getattr(parsed, member.name)
    packed = None
    if "data" in content.DESCRIPTOR.fields_by_name and content.data.HasField("protobuf_data"):
        packed = base64.b64encode(content.data.protobuf_data.SerializeToString()).decode()
        content.data.text_data = ""
    (kind, fields) = next(iter(cast("dict[str, Any]", MessageToDict(parsed)).items()))
    told: dict[str, Any] = {"type": _UPSTREAM[kind]} | fields
    for name in _NUMBERS:
        if name in told:
            told[name] = int(told[name])
    if "data" in told:
        ((name, value),) = told.pop("data").items()
        told |= {"dataType": name.removesuffix("Data"), "data": json.loads(value) if name == "jsonData" else value}
        if packed is not None:
            told |= {"dataType": "protobuf", "data": packed}
    return told


def in_protobuf(stream: bytes) -> bytes:
    """Frames of JSON as frames of protobuf: text frames become binary ones, and the other way round.

    What is no message stays as it is; from the first illegal frame on everything does.
    """
    parts: list[bytes] = []
    position = 0
    begun: list[tuple[int, bytes]] = []  # the frames of a message in parts, with control frames between
    while (found := _frame(stream, position)) is not None:
        opcode, final, content, end = found
        raw = stream[position:end]
        position = end
        if opcode >= 8:
            (begun.append((opcode, raw)) if begun else parts.append(raw))
        elif begun or not final:
            begun.append((opcode, content))
            if final:
                parts.append(_whole(begun))
                begun = []
        else:
            parts.append(frames.frame(_OTHER.get(opcode, opcode), _converted(content) if opcode == 1 else content))
    parts += [
        content if opcode >= 8 else frames.frame(_OTHER.get(opcode, opcode), content, fin=False)
        for opcode, content in begun
    ]
    return b"".join(parts) + stream[position:]


_OTHER = {frames.TEXT: frames.BINARY, frames.BINARY: frames.TEXT}


def _frame(stream: bytes, position: int) -> tuple[int, bool, bytes, int] | None:
    """The opcode, whether it is final, the payload and the end of a legal whole frame of a service; None: none."""
    if position + 2 > len(stream):
        return None
    first, length = stream[position], stream[position + 1]
    start = position + 2 + (0 if length < 126 else 2 if length == 126 else 8)
    if first & 0x70 or length & 0x80 or start > len(stream):
        return None
    if length >= 126:
        size = int.from_bytes(stream[position + 2 : start], "big")
        if size < (126 if length == 126 else 1 << 16):
            return None
        length = size
    if start + length > len(stream):
        return None
    return first & 15, first >= 128, stream[start : start + length], start + length


def _whole(begun: list[tuple[int, bytes]]) -> bytes:
    """A message in parts, in as many parts."""
    contents = [content for opcode, content in begun if opcode < 8]
    message = b"".join(contents)
    if begun[0][0] == frames.TEXT:
        message = _converted(message)
    step = len(message) // len(contents) + 1
    parts, count = b"", 0
    for opcode, content in begun:
        if opcode >= 8:
            parts += content
        else:
            piece = message[count * step : (count + 1) * step]
            count += 1
            parts += frames.frame(_OTHER.get(opcode, opcode), piece, fin=count == len(contents))
    return parts


def _converted(text: bytes) -> bytes:
    try:
        message = json.loads(text)
        encoded = downstream(message)
    except (ValueError, KeyError, TypeError, AttributeError):
        return text
    spaces = len(text) - len(text.strip())
    return encoded + _padding(spaces) if spaces else encoded


def _padding(size: int) -> bytes:
    field = bytearray()
    number, length = _PADDING << 3 | 2, size
    for value in (number, length):
        while value > 127:
            field.append(value & 127 | 128)
            value >>= 7
        field.append(value)
    return bytes(field) + b" " * size
