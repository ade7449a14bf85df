"""The ways into the service: at once where it is alone, through the log in a cluster. See :class:`Entrance`."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from limpet.service._admission import Admission, Outcome, Refusal, recovered_subprotocol
from limpet_core.service import ClientGrant, ConnectRequest, RawMode

if TYPE_CHECKING:
    from limpet.service._cluster_gateway import ClusterGateway
    from limpet.service._gateway import Gateway


class AtOnce:
    """Lets clients in at once, for one node: an :class:`~limpet.service._admission.Entrance`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def decides(self, hub: str) -> bool:
        return self._gateway.core.handler_decides(hub)

    def connect(
        self, hub: str, subprotocol: str | None, spelled: str | None, grant: ClientGrant, raw: RawMode
    ) -> Outcome:
        core = self._gateway.core
        return _full(self._gateway) or Admission(core.connect(hub, subprotocol, grant, monotonic(), raw), spelled)

    def ask(self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode) -> Outcome:
        return _full(self._gateway) or self._gateway.core.ask_to_connect(hub, grant, request, raw)

    def recover(self, hub: str, connection_id: str, token: str, spelled: str | None) -> Outcome:
        transport = self._gateway.core.recover(hub, connection_id, token, monotonic())
        return Admission(transport, recovered_subprotocol(transport, spelled))


class ThroughTheLog:
    """Lets clients in when the log says so: an :class:`~limpet.service._admission.Entrance`.

    The log decides about ``max_connections``. A node that knows already of as many connections asks neither the log nor
    an event handler.
    """

    def __init__(self, gateway: ClusterGateway) -> None:
        self._gateway = gateway

    def decides(self, hub: str) -> bool:
        return self._gateway.core.handler_decides(hub)

    def connect(
        self, hub: str, subprotocol: str | None, spelled: str | None, grant: ClientGrant, raw: RawMode
    ) -> Outcome:
        most = self._gateway.options.max_connections
        return self._closed() or self._gateway.replica.connect(hub, subprotocol, grant, raw, spelled=spelled, most=most)

    def ask(self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode) -> Outcome:
        most = self._gateway.options.max_connections
        return self._closed() or self._gateway.replica.ask_to_connect(hub, grant, request, raw, most=most)

    def recover(self, hub: str, connection_id: str, token: str, spelled: str | None) -> Outcome:
        return self._cut_off() or self._gateway.replica.recover(hub, connection_id, token, spelled=spelled)

    def _closed(self) -> Refusal | None:
        return self._cut_off() or _full(self._gateway)

    def _cut_off(self) -> Refusal | None:
        text = self._gateway.refusal
        return None if text is None else Refusal(503, text)


def _full(gateway: Gateway) -> Refusal | None:
    most = gateway.options.max_connections
    if most is not None and gateway.core.connection_count >= most:
        return Refusal(429, f"All {most} connections of this service are taken. Try again later.")
    return None
