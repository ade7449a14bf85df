"""The ways into the service: at once where it is alone, through the log in a cluster."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from limpet.service._admission import Admission, Outcome, Refusal, recovered_subprotocol
from limpet_core.service import ClientGrant, ConnectRequest, RawMode, ServiceCore
from limpet_core.service.cluster.replica import Replica


class AtOnce:
    """Lets clients in at once, for one node: an :class:`~limpet.service._admission.Entrance`.

    Args:
        core: the service's logic.
        most: returns how many connections there may be; ``None``: any number.
    """

    def __init__(self, core: ServiceCore, most: Callable[[], int | None]) -> None:
        self._core = core
        self._most = most

    def decides(self, hub: str) -> bool:
        return self._core.handler_decides(hub)

    def connect(
        self, hub: str, subprotocol: str | None, spelled: str | None, grant: ClientGrant, raw: RawMode
    ) -> Outcome:
        core = self._core
        return _full(core, self._most()) or Admission(core.connect(hub, subprotocol, grant, monotonic(), raw), spelled)

    def ask(self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode) -> Outcome:
        return _full(self._core, self._most()) or self._core.ask_to_connect(hub, grant, request, raw)

    def recover(self, hub: str, connection_id: str, token: str, spelled: str | None) -> Outcome:
        transport = self._core.recover(hub, connection_id, token, monotonic())
        return Admission(transport, recovered_subprotocol(transport, spelled))


class ThroughTheLog:
    """Lets clients in when the log says so: an :class:`~limpet.service._admission.Entrance`.

    The log decides whether there is room. A node that knows already that there is none asks nobody, neither the log nor
    an event handler.

    Args:
        replica: the node's part of the cluster.
        most: returns how many connections there may be in the whole cluster; ``None``: any number.
        refusal: returns why the node takes no clients at the moment; ``None``: it does.
    """

    def __init__(self, replica: Replica, most: Callable[[], int | None], refusal: Callable[[], str | None]) -> None:
        self._replica = replica
        self._most = most
        self._refusal = refusal

    def decides(self, hub: str) -> bool:
        return self._replica.core.handler_decides(hub)

    def connect(
        self, hub: str, subprotocol: str | None, spelled: str | None, grant: ClientGrant, raw: RawMode
    ) -> Outcome:
        most = self._most()
        return self._closed(most) or self._replica.connect(hub, subprotocol, grant, raw, spelled=spelled, most=most)

    def ask(self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode) -> Outcome:
        most = self._most()
        return self._closed(most) or self._replica.ask_to_connect(hub, grant, request, raw, most=most)

    def recover(self, hub: str, connection_id: str, token: str, spelled: str | None) -> Outcome:
        return self._unavailable() or self._replica.recover(hub, connection_id, token, spelled=spelled)

    def _closed(self, most: int | None) -> Refusal | None:
        return self._unavailable() or _full(self._replica.core, most)

    def _unavailable(self) -> Refusal | None:
        text = self._refusal()
        return None if text is None else Refusal(503, text)


def _full(core: ServiceCore, most: int | None) -> Refusal | None:
    if most is not None and core.connection_count >= most:
        return Refusal(429, f"All {most} connections of this service are taken. Try again later.")
    return None
