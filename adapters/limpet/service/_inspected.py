"""The logic of a node for those who may look at it."""

from __future__ import annotations

from typing import Any, Final

from limpet_core.service.cluster.replicated_core import ReplicatedCore

CHANGES: Final = frozenset(
    {
        "ask_to_connect",
        "close_connection",
        "close_stream",
        "connect",
        "decided_connects",
        "disconnected",
        "drop",
        "forget_connect",
        "handler_answered",
        "handler_calls",
        "handler_failed",
        "join",
        "leave",
        "listener_messages",
        "prepare_output",
        "receive",
        "recover",
        "send_to_all",
        "send_to_connection",
        "send_to_group",
        "send_to_user",
        "set_handlers",
        "shut_down",
        "transport_broken",
        "transports_with_output",
        "wake",
    }
)
"""The methods of :class:`~limpet_core.service.ServiceCore` that change the state, or take output that is not theirs."""


_OF_CLUSTER: Final = frozenset(name for name, kind in vars(ReplicatedCore).items() if callable(kind) and name[0] != "_")
"""The commands of the log and the outputs of a node, which the part of it that reads the log calls."""


class InspectedCore(ReplicatedCore):
    """The state of a node's logic, at any time the present one, without the methods that change it.

    A change would be one of this node alone, whose state would differ from that of the cluster from then on.

    Args:
        core: the logic itself.
    """

    def __init__(self, core: ReplicatedCore) -> None:
        object.__setattr__(self, "__dict__", core.__dict__)

    def __getattribute__(self, name: str) -> Any:
        if name in CHANGES or name in _OF_CLUSTER:
            raise _refusal(name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise _refusal(name)

    def __delattr__(self, name: str) -> None:
        raise _refusal(name)


def _refusal(name: str) -> RuntimeError:
    return RuntimeError(
        f"Service.core.{name} at a node of a cluster: the state of all nodes changes by the log alone. "
        "Use the REST API of any node, for example with a server SDK and Service.connection_string"
    )
