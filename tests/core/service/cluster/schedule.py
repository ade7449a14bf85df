"""A cluster that lives by chance: a seed decides what its clients, servers, handlers and nodes do."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar

from tests.core.service.cluster.nodes import Client, Cluster, Node

from limpet_core.protocol.names import RELIABLE_JSON, RELIABLE_PROTOBUF
from limpet_core.service import EventHandler, Limits, RawMode
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.behaviour import BEHAVIOUR
from limpet_core.service.cluster import commands
from limpet_core.service.connections.connection import Connection
from limpet_core.service.data_plane import writes

HANDLERS = (
    EventHandler(url="http://safe/{hub}", user_events=("safe",), system_events=(), resend="safe"),
    EventHandler(url="http://app/{event}", system_events=("connected", "disconnected")),
)
LIMITS = Limits(
    retained_messages=60, remembered_acks=6, recovery_window=6, stream_idle_timeout=9, group_states=4, invocations=5
)
GROUPS = ("g1", "g2", "g3")
JSON = "json.webpubsub.azure.v1"
ROLES = (
    ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"),
    ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroups.g*", "webpubsub.sendToGroup.other"),
    ("webpubsub.joinLeaveGroup.g1", "webpubsub.joinLeaveGroups.g?", "webpubsub.sendToGroup"),
)


class Schedule:
    """One life of one cluster.

    Attributes:
        cluster: the nodes, the log and the clients.
        clients: all that ever were.
        heard: what the clients were told under each connection id and sequence id.
        snapshots: those that were taken.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cluster = Cluster("a", "b", limits=LIMITS, handlers=HANDLERS)
        self.clients: list[Client] = []
        self.snapshots: list[bytes] = []
        self.heard: dict[tuple[str, int], Any] = {}
        self._numbers = iter(range(1, 100_000))
        for node in self.cluster.up:
            _delay_some_answers(node)

    # ---- Steps

    def step(self) -> None:
        """Do something, or several things, and let time pass."""
        for _ in range(self.random.choice((1, 1, 3, 10))):
            self._act()
        self.cluster.run(self.random.choice((0, 0, 0, 0.25, 0.5, 2.0)))
        self._note()

    def begin_node(self) -> tuple[Node, Node]:
        """Start a node with a snapshot of another one; return both, before the new one has written anything."""
        old = self.random.choice(self.cluster.up)
        data = old.replica.snapshot()
        new = self.cluster.start(f"s{next(self._numbers)}")
        _delay_some_answers(new)
        new.replica.restore(data)
        new.read = old.read
        self.snapshots.append(data)
        return old, new

    def end(self) -> None:
        """Bring all clients back, each at some node."""
        for client in list({client.connection_id: client for client in self.clients}.values()):
            self._recover_at(self.random.choice(self.cluster.up), client)
        self.cluster.run(1)
        self._note()

    # ---- What happens

    def _act(self) -> None:
        act, weights = zip(*self._acts.items(), strict=True)
        self.random.choices(act, weights)[0](self)

    def _connect(self) -> None:
        draw = self.random
        subprotocol = draw.choice((RELIABLE_JSON, RELIABLE_JSON, RELIABLE_JSON, JSON, None, RELIABLE_PROTOBUF, "chess"))
        raw = draw.choice((RawMode(), RawMode("g1", True)))
        node = draw.choice(self.cluster.up)
        grant = ClientGrant(draw.choice((None, "ann", "bob", "cid")), draw.choice(ROLES), draw.choice(((), ("g1",))))
        opening = node.replica.connect(draw.choice(("h", "h", "K")), subprotocol, grant, raw)
        client = Client(node, reads=subprotocol in (JSON, RELIABLE_JSON))
        self.cluster.waiting[opening] = client
        self.clients.append(client)

    def _connected(self, *, json: bool = True) -> Client | None:
        found = [
            client
            for client in self.clients
            if client.transport is not None
            and not client.node.is_down
            and not client.node.replica.fenced
            and client.transport.connection is not None
            and client.transport.connection.transport is client.transport
            and (client.reads or not json)
        ]
        return self.random.choice(found) if found else None

    def _say(self, **message: Any) -> None:
        client = self._connected()
        if client is not None:
            client.says(**message)

    def _ack_id(self) -> int:
        return self.random.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, next(self._numbers)))

    def _join(self) -> None:
        kind = self.random.choice(("joinGroup", "joinGroup", "leaveGroup"))
        self._say(type=kind, group=self.random.choice(GROUPS), ackId=self._ack_id())

    def _publish(self) -> None:
        draw = self.random
        more: dict[str, Any] = draw.choice(({}, {"ttlSeconds": 3}, {"noEcho": True}, {"metadata": {"k": "v"}}))
        group, text = draw.choice(GROUPS), f"text {next(self._numbers)}"
        self._say(type="sendToGroup", group=group, data=text, dataType="text", ackId=self._ack_id(), **more)

    def _raise_event(self) -> None:
        name = self.random.choice(("safe", "hello"))
        self._say(type="event", event=name, data=name, dataType="text", ackId=self._ack_id(), metadata={"m": "1"})

    def _burst(self) -> None:
        """Raise an event, and send more behind it, which waits."""
        client = self._connected()
        if client is None:
            return
        group = self.random.choice(GROUPS)
        client.says(type="event", event="hello", data="1", dataType="text", ackId=self._ack_id())
        if self.random.random() < 0.6:
            ack_id = self._ack_id()
            client.says(type="event", event="safe", data=1, ackId=ack_id)
            client.says(type="sendToGroup", group="g1", stream={"streamId": f"s{ack_id}"}, ackId=ack_id)
        client.says(type="sendToGroup", group=group, data="2", dataType="text", ttlSeconds=2, metadata={"a": "b"})
        client.says(type="joinGroup", group=group, ackId=self._ack_id())
        client.says(type="setGroupState", group=group, state={"a": "1"})
        if self.random.random() < 0.3:
            client.is_lost()

    def _stream(self) -> None:
        draw = self.random
        stream_id = draw.choice(("s1", "s2", "s3"))
        start: dict[str, Any] = {"type": "sendToGroup", "group": draw.choice(GROUPS), "stream": {"streamId": stream_id}}
        if draw.random() < 0.5:
            start["stream"]["idleTimeoutMs"] = draw.choice((2000, 30_000))
        data = {"type": "streamData", "streamId": stream_id, "data": 1, "dataType": "json"}
        said = draw.choice(
            (
                {**start, "noEcho": draw.random() < 0.5, "ackId": next(self._numbers)},
                {**data, "streamSequenceId": draw.choice((1, 2, 3))},
                {**data, "streamSequenceId": 9},
                {"type": "streamData", "streamId": stream_id},
                {"type": "streamEnd", "streamId": stream_id},
            )
        )
        self._say(**said)

    def _states(self) -> None:
        draw = self.random
        group = draw.choice(GROUPS)
        said: dict[str, Any] = draw.choice(
            (
                {"type": "setGroupState", "state": {"at": str(next(self._numbers))}},
                {"type": "setGroupState", "state": {"at": str(next(self._numbers)), "ü": "ß"}},
                {"type": "setGroupState", "state": None},
                {"type": "subscribeGroupState"},
                {"type": "unsubscribeGroupState"},
            )
        )
        self._say(group=group, ackId=next(self._numbers), **said)

    def _invoke(self) -> None:
        draw = self.random
        invocation_id = draw.choice(("i1", "i2", "i3", "slow1", "slow2"))
        if draw.random() < 0.2:
            self._say(type="cancelInvocation", invocationId=invocation_id)
            return
        client = self._connected()
        for each in ("slow1", "slow2") if invocation_id == "slow1" else (invocation_id,):
            if client is not None:
                client.says(type="invoke", invocationId=each, target="event", event="ask", data="?", dataType="text")

    def _acknowledge(self) -> None:
        client = self._connected()
        if client is not None and _is_reliable(client) and client.messages:
            client.says(type="sequenceAck", sequenceId=client.messages[-1][0])

    def _say_nonsense(self) -> None:
        self._say(type="flyToTheMoon", ackId=self._ack_id())

    def _say_raw(self) -> None:
        client = self._connected(json=False)
        if client is not None and not client.reads:
            assert client.transport is not None
            client.node.replica.receive(client.transport, "raw", self.cluster.now)

    def _lose(self) -> None:
        client = self._connected(json=False)
        if client is not None:
            assert client.transport is not None
            client.node.replica.disconnected(client.transport, self.random.choice((1006, 1006, 1006, 1000)), "bye")

    def _recover(self) -> None:
        found = [client for client in self.clients if client.connection_id]
        if found:
            self._recover_at(self.random.choice(self.cluster.up), self.random.choice(found))

    def _recover_at(self, node: Node, client: Client) -> None:
        opening = node.replica.recover("h", client.connection_id, f"token of {client.connection_id}")
        self.cluster.waiting[opening] = back = Client(node, client.connection_id, reads=client.reads)
        self.clients.append(back)

    def _answer(self) -> None:
        for node in self.cluster.up:
            calls, node.calls = node.calls, []
            for call in calls:
                if call.cancelled:
                    continue
                if call.event == "validate":
                    node.answers(call, 200, WebHook_Allowed_Origin="*")
                elif self.random.random() < 0.5:
                    node.calls.append(call)
                elif self.random.random() < (0.6 if call.event == "safe" else 0.2):
                    node.answers(call, 400)
                else:
                    body = self.random.choice((b"", b"reply"))
                    state = f"state {next(self._numbers)}"
                    cookie = f"c{self.random.randrange(3)}=1"
                    node.answers(
                        call, 200, body, content_type="text/plain", ce_connectionState=state, set_cookie=cookie
                    )

    def _write(self) -> None:
        draw = self.random
        node = draw.choice(self.cluster.up)
        ids = [client.connection_id for client in self.clients if client.connection_id] or ["none"]
        message = writes.Message("text", b'"from the server"', time_to_live=draw.choice((0, 5)))
        one, group = draw.choice(ids), draw.choice(GROUPS)
        node.replica.ask(
            draw.choice(
                (
                    writes.Send("h", "hub", "", message),
                    writes.Send("h", "group", group, message, where="userId eq 'ann'"),
                    writes.Send("h", "user", "bob", message, excluded=(one,)),
                    writes.Send("h", "connection", one, message),
                    writes.AddToGroup("h", "user", "ann", group),
                    writes.RemoveFromGroups("h", "connection", one),
                    writes.ChangePermission("h", draw.random() < 0.5, "sendToGroup", one, group),
                    writes.ChangePermission("h", draw.random() < 0.5, "joinLeaveGroup", one, group),
                    writes.Close("h", "connection", one, "you"),
                )
            )
        )

    def _change_nodes(self) -> None:
        up = self.cluster.up
        if len(up) > 2:
            node = self.random.choice(up)
            if self.random.random() < 0.5:
                self.cluster.kill(node.name)
            else:
                node.replica.leave()

    def _break(self) -> None:
        """Write what no node writes: the logic raises."""
        name, number = f"z{next(self._numbers)}", 1
        hello = commands.Hello(b"same", BEHAVIOUR, BEHAVIOUR, name)
        opened = commands.Open(f"{name}-1", number, "h", None, None, (), (), RawMode())
        received = commands.Received(f"{name}-1", number, b"\xff", True)
        self.cluster.write(commands.envelop(name, 1, [commands.encode(each) for each in (hello, opened, received)]))

    def _wait(self) -> None:
        self.cluster.run(self.random.choice((1.0, 3.0, 8.0)))

    _acts: ClassVar[dict[Callable[[Schedule], None], float]] = {
        _connect: 4, _join: 8, _publish: 8, _raise_event: 3, _burst: 3, _stream: 8, _states: 6, _invoke: 4,
        _acknowledge: 2, _say_nonsense: 1, _say_raw: 2, _lose: 3, _recover: 5, _answer: 6, _write: 4,
        _change_nodes: 0.6, _break: 0.1, _wait: 0.5,
    }  # fmt: skip

    # ---- What clients must see

    def _note(self) -> None:
        """Check that a message has one meaning, whichever node sent it, and that none is missing between two."""
        for client in self.clients:
            last = 0
            for sequence_id, data in client.messages if _is_reliable(client) else ():
                told = self.heard.setdefault((client.connection_id, sequence_id), data)
                assert told == data, (client.connection_id, sequence_id)
                # Those that have expired are left out of a replay.
                assert sequence_id > last, (client.connection_id, sequence_id)
                last = sequence_id


def _is_reliable(client: Client) -> bool:
    connection = None if client.transport is None else client.transport.connection
    return connection is not None and connection.reliable


def _delay_some_answers(node: Node) -> None:
    """Hold the answers to some invocations back, as tests of applications have it."""

    def slow(connection: Connection, invocation_id: str) -> float | None:
        return 2.5 if invocation_id.startswith("slow") else None

    node.replica.core.invocations.faults.append(slow)
