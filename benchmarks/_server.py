"""The other end of every benchmark: it speaks just enough of the protocol, and as fast as Python can.

``python _server.py [CERTIFICATE]`` listens on a port of its own choice, which it prints; with a certificate (and its
key, in one PEM file) it speaks TLS.

What a connection gets is said in the query of its URL: ``size``, ``text``, ``warm``,
``seconds``, ``rate``, ``cap``. It starts with the first event that the client sends, and marks its measured part by
one message to the group ``start`` and one to ``end``. With ``drop`` the connection is closed instead, as soon as it has
been recovered.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
import sys
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

try:
    from websockets.speedups import apply_mask
except ImportError:  # no C for this platform
    from websockets.utils import apply_mask

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NUMBER = re.compile(rb'"(?:ackId|sequenceId)":\s*(\d+)')
STREAM = re.compile(rb'"streamId":\s*("[^"]*")')
FRAGMENT = b'{"type":"streamData",'  # as all clients write it
STREAM_ACKS = 25  # the fragments of a stream that one streamAck answers
ASCII = b"The quick brown fox jumps over the lazy dog; 1234567890 times. "
MIXED = 'Größe, 速い, \\n and \\"quotes\\": '.encode()


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """A whole, unmasked frame."""
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


def group_message(group: bytes, sequence_id: bytes, data: bytes) -> bytes:
    """A frame with a group message as the service writes it."""
    return frame(
        b'{"sequenceId":%s,"type":"message","from":"group","group":"%s","fromUserId":"sender","dataType":"text",'
        b'"data":"%s"}' % (sequence_id, group, data)
    )


def blocks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Frames with the sequence ids 1, 2, 3 ... in blocks: the first id, the size of a frame, the frames.

    One template serves all blocks whose ids have as many digits: only the leading digits are replaced.
    """
    digits = 3 if len(data) < 1024 else 2 if len(data) < 16384 else 1
    count = 10**digits
    yield 1, 0, b"".join([group_message(b"bench", b"%d" % n, data) for n in range(1, count)])
    leading = template = b""
    for block in range(1, 10**9):
        number = b"%d" % block
        if len(number) > len(leading):
            leading = b"@" * len(number)
            ids = [leading + b"%0*d" % (digits, n) for n in range(count)]
            template = b"".join([group_message(b"bench", one, data) for one in ids])
        yield block * count, len(template) // count, template.replace(leading, number)


def text(kind: str, size: int) -> bytes:
    """JSON string contents of about ``size`` bytes."""
    sample = MIXED if kind == "mixed" else ASCII
    if kind == "mixed":
        return (sample * (size // len(sample) + 1))[: max(size // len(sample), 1) * len(sample)]
    return (sample * (size // len(sample) + 1))[:size]


class Connection(asyncio.Protocol):
    """One client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.set_write_buffer_limits(high=1 << 18)
        self.buffer = b""
        self.open = False
        self.started = False
        self.closing = False
        self.acknowledged = 0
        self.fragments = 0
        self.drained = asyncio.Event()
        self.drained.set()
        self.task: asyncio.Task[None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.drained.set()

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    # ---- From the client

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.open:
            head, found, self.buffer = self.buffer.partition(b"\r\n\r\n")
            if not found:
                self.buffer = head
                return
            self.accept(head.decode())
        self.read_frames()

    def accept(self, head: str) -> None:
        request, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        query = parse_qs(urlsplit(request.split()[1]).query)
        self.query = {name: values[0] for name, values in query.items()}
        accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest()).decode()
        protocol = headers["sec-websocket-protocol"].split(",")[0]
        self.transport.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
            + frame(
                b'{"type":"system","event":"connected","userId":"bench","connectionId":"%d",'
                b'"reconnectionToken":"token"}' % int(self.query.get("awps_connection_id", id(self)))
            )
        )
        self.open = True
        if "drop" in self.query and "awps_connection_id" not in self.query:
            self.close()

    def close(self) -> None:
        self.closing = True
        self.transport.close()

    def read_frames(self) -> None:
        buffer, at, end = self.buffer, 0, len(self.buffer)
        answers: list[bytes] = []
        while end - at >= 6:
            first, length = buffer[at], buffer[at + 1] & 0x7F
            start = at + 2
            if length > 125:
                size = 2 if length == 126 else 8
                if end - start < size:
                    break
                length = int.from_bytes(buffer[start : start + size], "big")
                start += size
            stop = start + 4 + length
            if stop > end:
                break
            payload = apply_mask(buffer[start + 4 : stop], buffer[start : start + 4])
            if payload.startswith(FRAGMENT) and (self.fragments + 1) % STREAM_ACKS:
                self.fragments += 1  # without a further look: else this server would be slower than the clients
            else:
                self.message(first, payload, answers)
            at = stop
        self.buffer = buffer[at:]
        if answers and not self.closing:
            self.transport.write(b"".join(answers))

    def message(self, first: int, payload: bytes, answers: list[bytes]) -> None:
        if first == 0x89:
            answers.append(frame(payload, 0x8A))
        elif first == 0x88:
            if not self.closing:
                answers.append(frame(payload, 0x88))
            self.transport.write(b"".join(answers))
            answers.clear()
            self.close()
        elif first == 0x81:
            number = NUMBER.search(payload)
            if number is None:
                if b'"ping"' in payload:
                    answers.append(frame(b'{"type":"pong"}'))
                    if "drop" in self.query:
                        self.transport.write(answers.pop())
                        self.close()
                elif stream := STREAM.search(payload):
                    self.stream(stream[1], payload, answers)
            elif b'"sequenceAck"' in payload:
                self.acknowledged = int(number[1])
            else:
                answers.append(frame(b'{"type":"ack","ackId":%s,"success":true}' % number[1]))
            if b'"event"' in payload and not self.started:
                self.started = True
                self.task = asyncio.create_task(self.paced() if "rate" in self.query else self.blast())

    def stream(self, stream_id: bytes, payload: bytes, answers: list[bytes]) -> None:
        """Take the start, a fragment or the end of a stream in; there is one at a time."""
        if b'"streamData"' in payload:
            self.fragments += 1
            if self.fragments % STREAM_ACKS:
                return
        elif b'"streamEnd"' in payload:
            answers.append(frame(b'{"type":"streamClosed","streamId":%s}' % stream_id))
            return
        else:
            self.fragments = 0
        expected = self.fragments + 1
        answers.append(frame(b'{"type":"streamAck","streamId":%s,"expectedSequenceId":%d}' % (stream_id, expected)))

    # ---- To the client

    async def blast(self) -> None:
        """As fast as the client can take it: 1 part to warm up, 1 part measured."""
        data = text(self.query.get("text", "ascii"), int(self.query["size"]))
        clock = asyncio.get_running_loop().time
        until = clock() + float(self.query["warm"])
        marks = [b"start", b"end"]
        for first, size, block in blocks(data):
            if first > 1 and clock() >= until:
                mark = marks.pop(0)
                self.transport.write(group_message(mark, b"%d" % first, data))
                if not marks:
                    return
                until = clock() + float(self.query["seconds"])
                block = block[size:]
            self.transport.write(block)
            await self.drained.wait()
            if self.closing:
                return
            await asyncio.sleep(0)

    async def paced(self) -> None:
        """So many messages a second, each written on its own; over the cap the connection is ended."""
        data = text(self.query.get("text", "ascii"), int(self.query["size"]))
        rate, cap = float(self.query["rate"]), int(self.query["cap"])
        clock = asyncio.get_running_loop().time
        total = int(rate * float(self.query["seconds"]))
        sent, began = 0, clock()
        while sent < total and not self.closing:
            # A server that was held up goes on at the same pace later: no burst of its own making.
            due = int((clock() - began) * rate) + 1
            if due - sent > rate / 200 + 1:
                began += (due - sent) / rate - 0.005
                due = sent + int(rate / 200) + 1
            due = min(due, total)
            while sent < due:
                sent += 1
                group = b"start" if sent == 1 else b"end" if sent == total else b"bench"
                self.transport.write(group_message(group, b"%d" % sent, data))
                if cap and sent - self.acknowledged > cap:
                    self.closing = True
                    reason = b"%d messages are not acknowledged" % (sent - self.acknowledged)
                    self.transport.write(frame((1008).to_bytes(2, "big") + reason, 0x88))
                    return
            await asyncio.sleep(max(0.001, began + sent / rate - clock()))  # a thousand connections may be slow ones


async def main() -> None:
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[1])
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1000, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
