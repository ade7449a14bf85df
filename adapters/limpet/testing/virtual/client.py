"""A Session, driven in memory."""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast

from limpet import Close, ConnectError, Dial, Event, Session, State
from limpet.testing._kinds import check_kind_of_client
from limpet.testing.virtual.network import Line, VirtualNetwork
from limpet_core.protocol.codec import codec_for
from limpet_core.service import NO_CLOSE_FRAME

E = TypeVar("E")


class VirtualClient:
    """A :class:`limpet.Session` joined to a :class:`VirtualService`, which makes it.

    Every method returns when the messages that it causes have arrived. For other methods of the session pass the
    service's ``now``, and call ``settle()`` of the service afterwards.

    Attributes:
        session: the session.
        sent: the messages that the session has handed to a transport, decoded; of protobuf, a dict that has each
            one's ``text``. A test may clear the list.
        events: the events of the session so far. A test may clear this list, too.
    """

    def __init__(self, network: VirtualNetwork, url: str, session: Session) -> None:
        self.session: Session = session
        self.sent: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self._network = network
        self._url = url
        self._dial: Dial | None = None
        self._line: Line | None = None

    # ---- State

    @property
    def state(self) -> State:
        """The session's ``state``."""
        return self.session.state

    @property
    def connection_id(self) -> str | None:
        """The session's ``connection_id``."""
        return self.session.connection_id

    def events_of(self, kind: type[E]) -> list[E]:
        """The events of one type. Raises TypeError for what is no type of an event of a client."""
        check_kind_of_client(kind)
        return [event for event in self.events if isinstance(event, kind)]

    # ---- Calls

    def start(self) -> None:
        """Call ``start``."""
        self.session.start(self._network.now)
        self._network.settle()

    def stop(self) -> None:
        """Call ``stop``."""
        self.session.stop(self._network.now)
        self._network.settle()

    def join_group(self, group: str, **options: Any) -> int | None:
        """Call ``join_group`` and return the ack id."""
        return self._ask(self.session.join_group(group, self._network.now, **options))

    def leave_group(self, group: str, **options: Any) -> int | None:
        """Call ``leave_group`` and return the ack id."""
        return self._ask(self.session.leave_group(group, self._network.now, **options))

    def send_to_group(self, group: str, data: Any, **options: Any) -> int | None:
        """Call ``send_to_group`` and return the ack id."""
        return self._ask(self.session.send_to_group(group, data, self._network.now, **options))

    def send_event(self, event: str, data: Any, **options: Any) -> int | None:
        """Call ``send_event`` and return the ack id."""
        return self._ask(self.session.send_event(event, data, self._network.now, **options))

    def _ask(self, ack_id: int | None) -> int | None:
        self._network.settle()
        return ack_id

    def _read(self, message: bytes) -> dict[str, Any]:
        options = self.session.options
        if options.binary:
            return {"text": codec_for(options.protocol).show(message, received=False)}
        return cast("dict[str, Any]", json.loads(message))

    # ---- The driver: what adapters do

    def exchange(self) -> bool:
        """Do what the session wants done; return whether there was anything. The network calls this."""
        events = self.session.events()
        self.events += events
        if self.session.dial is not self._dial:
            self._follow(self.session.dial)
            return True
        if self._dial is None:
            return bool(events)
        if self._line is None:
            return self._open(self._dial) or bool(events)
        return self._talk(self._dial, self._line) or bool(events)

    def _follow(self, dial: Dial | None) -> None:
        if self._line is not None and self._dial is not None:
            close = self._dial.close or Close(NO_CLOSE_FRAME)
            self._line.close(close.code, close.reason)
        self._dial, self._line = dial, None
        if dial is not None and dial.url is None:
            self.session.url_ready(self._url, self._network.now)

    def _open(self, dial: Dial) -> bool:
        if self._network.is_stalled():
            return False
        try:
            self._line = self._network.dial(dial)
        except ConnectError as error:
            self.session.dial_failed(error, self._network.now, status=error.status)
        else:
            self.session.connected(self._network.now)
        return True

    def _talk(self, dial: Dial, line: Line) -> bool:
        session, now = self.session, self._network.now
        said = session.messages_to_send()
        for message in said:
            self.sent.append(self._read(message))
            if not line.over:
                line.send(message)
        if dial.close is not None:
            line.close(dial.close.code, dial.close.reason)
            self._line = None
            session.disconnected(now, code=dial.close.code)
            return True
        heard: list[bytes] = []
        while line.arrived and session.reading:
            item = line.arrived.popleft()
            if isinstance(item, Close):
                session.receive_messages(heard, now)
                session.disconnected(now, code=item.code, reason=item.reason)
                return True
            heard.append(item)
        if heard:
            session.receive_messages(heard, now)
        return bool(said or heard)
