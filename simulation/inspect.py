"""The private state of the core: the only module outside it that knows the names.

:func:`inspect` takes a record of a session. The functions below it change one: benchmarks and tests of rare states
use them, and sessions and services that are faulty on purpose (``tests/helpers/faulty.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limpet import Event, Link, Session
from limpet_core.client.request import Kind, Request
from limpet_core.client.timers import Timer
from limpet_core.service import JSON, ClientGrant, Connection, Limits, ServiceCore, Transport
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.rollout import Rollout
from limpet_core.service.cluster.shared_state import SharedState
from limpet_core.service.connections.registry import ConnectionListener
from limpet_core.service.wire.raw import RawMode

# ---- What there is


@dataclass(frozen=True)
class Inside:
    """The private state of a session at one moment.

    Attributes:
        url: the Client Access URL that was used last.
        token: the reconnection token of the connection, if any.
        open: whether the transport is open.
        senders: how many senders wait for the transport or for the window of publishes.
        last: the largest sequence id seen on this connection.
        pending: the requests that are not settled, in the order of the calls; the objects are live.
        rejoins: the groups to join again if the leave that is pending fails.
        leaving: the groups with a leave that is not settled.
        left: names and contents of the buffers and counters that are not as they are in a new session.
    """

    url: str
    token: str | None
    open: bool
    senders: int
    last: int
    pending: tuple[Request, ...]
    rejoins: frozenset[str]
    leaving: frozenset[str]
    left: dict[str, object]


def inspect(session: Session) -> Inside:
    """Take a record of ``session``."""
    lifecycle, requests, groups, outbox, invocations = (
        session._lifecycle,
        session._requests,
        session._groups,
        session._requests._outbox,
        session._invocations,
    )
    connection = lifecycle.connection
    buffers: dict[str, object] = {
        "pending": requests.pending,
        "outbox": outbox.queue,
        "repeats": outbox.repeats,
        "in flight": outbox.in_flight,
        "unanswered": requests._unanswered,
        "backing off": requests._backing_off,
        "limited in time": requests._limited,
        "own": requests._own,
        "memberships": groups._pending,
        "rejoins": groups._rejoins,
        "states asked for": requests.group_states._chains,
        "states to set again": requests.group_states._restores,
        "states to have anew": requests.group_states._renewals,
        "streams": session._streams._streams,
        "failed streams": session._streams._failed,
        "streams that send": session._streams.sending,
        "streams that wait": session._streams._waiting,
        "invocations": invocations.pending,
        "unsent invocations": invocations.unsent,
        "cancellations": invocations._cancellations,
        "allowance taken": requests.allowance.taken,
        "control": session._control.messages,
        "publishes on their way": 2 * session._pacing._stride - session._pacing._room,
    }
    return Inside(
        url=lifecycle._url,
        token=None if connection is None else connection.token,
        open=lifecycle.open,
        senders=lifecycle.senders,
        last=0 if connection is None else connection.sequence_id,
        pending=pending(session),
        rejoins=frozenset(groups._rejoins),
        leaving=frozenset(request.group for request in requests.pending.values() if request.kind is Kind.LEAVE),
        left={name: held for name, held in buffers.items() if held},
    )


def unacknowledged(session: Session) -> int:
    """Return how many messages the session has received and not acknowledged."""
    connection = session._lifecycle.connection
    return 0 if connection is None else connection.unacked_messages


def queued(session: Session) -> int:
    """Return how many requests wait for the transport."""
    return len(session._outbox.queue)


def joined(session: Session) -> dict[str, None]:
    """Return the record of the groups that the session has joined."""
    return session._groups.joined


def pending(session: Session) -> tuple[Request, ...]:
    """Return the requests that are not settled, in the order of the calls; safe while another thread runs."""
    return tuple(session._requests.pending.values())


def request_deadlines(session: Session) -> int:
    """Return how many deadlines of requests are remembered, those of settled requests included."""
    return len(session._requests._deadlines._heap)


@dataclass(frozen=True)
class InvocationsInside:
    """The private state of the invocations of a session.

    Attributes:
        payloads: what is still to be sent for each pending invocation; empty: it was sent.
        deadlines: how many deadlines are remembered, those of settled invocations included.
    """

    payloads: list[bytes]
    deadlines: int


def invocations_inside(session: Session) -> InvocationsInside:
    """Take a record of the invocations of ``session``."""
    invocations = session._invocations
    payloads = [invocation.payload for invocation in invocations.pending.values()]
    return InvocationsInside(payloads, len(invocations._deadlines._heap))


# ---- Changes to a session


def rare_parts(session: Session) -> list[object]:
    """Return the parts of a session that are made at their first use, as each holder of one has it."""
    return [
        session._requests._deadlines,
        session._requests.group_states,
        session._inbound.invocations,
        session._inbound.streams,
        session._invocations,
        session._streams,
    ]


def see_up_to(session: Session, sequence_id: int) -> None:
    """Let ``sequence_id`` be the largest that the session has seen on this connection; 0: none."""
    if session._lifecycle.connection is not None:
        session._lifecycle.connection.sequence_id = sequence_id


def wake_requests(session: Session, now: float) -> None:
    """Do what is due for requests at ``now``, whatever the timer of the session says."""
    session._requests.wake(now)


def set_stride(session: Session, stride: int) -> None:
    """Let every ``stride``-th publish without an ack ask for one."""
    session._pacing._stride = stride
    session._pacing.reset()


def unanswer(session: Session) -> None:
    """Take back that the last publish of the session's own was answered."""
    session._pacing._room -= session._pacing._stride


def put_back(session: Session, events: list[Event]) -> None:
    """Return events that :meth:`Session.events` has given out."""
    session._events += events


def forget(session: Session, request: Request) -> None:
    """Forget a pending request without an answer."""
    session._requests._forget(request)


def reverse_pending(session: Session) -> None:
    """Turn the order of the pending requests around."""
    requests = session._requests
    requests.pending = dict(reversed(requests.pending.items()))


def forget_groups(session: Session) -> None:
    """Forget the groups to join again."""
    session._groups.leave_all()


def forget_rejoin(session: Session, group: str) -> None:
    """Forget the rejoin of ``group`` that waits for the end of a leave."""
    if group in session._groups._rejoins:
        del session._groups._rejoins[group]


def forget_own_states(session: Session) -> None:
    """Forget the own states in all groups, which are to be set again."""
    session._requests.group_states._own.clear()


def set_timer(session: Session, timer: Timer, deadline: float) -> None:
    """Arm ``timer`` for ``deadline``; ``math.inf`` disarms it."""
    session._timers.set(timer, deadline)


def reads_other_frames(link: Link) -> bool:
    """Return whether ``link`` keeps what reads the frames that are not ordinary."""
    return link._frames is not None


def end_handshake(link: Link) -> None:
    """Let a link forget what only its handshake needs."""
    link._endpoint = None


# ---- Changes to a service


def set_limits(connection: Connection, limits: Limits) -> None:
    """Give one connection limits of its own."""
    connection._limits = limits


def forget_ack_ids(transport: Transport) -> None:
    """Forget the ack ids that were executed on the connection of ``transport``."""
    if transport.connection is not None:
        transport.connection.acks.succeeded.clear()


def skip_a_sequence_id(connection: Connection) -> None:
    """Have a connection count one message more than it got."""
    connection._sequence_id += 1


def lose_newest_retained(core: ServiceCore, connection_id: str) -> None:
    """Forget the newest message that is retained for a connection; its sequence id stays used."""
    connection = core.connection(connection_id)
    if connection is not None and connection.retained:
        connection._retained.pop()


def wrap_publish(core: ServiceCore, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the function that executes a publish by ``wrap(function)``."""
    core._dispatcher._publish = wrap(core._dispatcher._publish)  # type: ignore[method-assign]


def states_of(core: ServiceCore) -> tuple[dict[tuple[str, str], Any], dict[Any, Any]]:
    """Return what a service keeps of the states of groups: by hub and group, and the news that wait; live."""
    return core._states._groups, core._states._with_news  # type: ignore[return-value]


def wrap_stream_acks(core: ServiceCore, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Replace the function that acknowledges fragments by ``wrap(function)``."""
    core.streams._send_ack = wrap(core.streams._send_ack)  # type: ignore[method-assign]


def wrap_stream_ends(core: ServiceCore, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Replace the function that tells members of the end of a stream by ``wrap(function)``."""
    core.streams._tell_members = wrap(core.streams._tell_members)  # type: ignore[method-assign]


def wrap_state_notes(core: ServiceCore, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Replace the function that notes the change of a state, for those who watch, by ``wrap(function)``."""
    core._states._note = wrap(core._states._note)  # type: ignore[method-assign]


# ---- Changes to a node of a cluster


def listen(core: ServiceCore, listener: ConnectionListener) -> None:
    """Tell ``listener`` of the beginnings and ends of connections."""
    core._registry.listen(listener)


def connect_unnoticed(core: ServiceCore, hub: str, groups: tuple[str, ...]) -> Transport:
    """Connect a client that no event handler hears of, as a member of groups."""
    grant = ClientGrant(None, (), groups)
    connection = Connection(hub, f"unnoticed {core.connection_count}", JSON, grant, RawMode(), core.limits)
    transport = core._registry.transport(connection)
    core._registry.open(connection, grant, transport)
    return transport


def wrap_receive(core: ServiceCore, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Replace the function that takes the messages of clients by ``wrap(function)``."""
    core.receive = wrap(core.receive)  # type: ignore[method-assign]


def set_rollout(replica: Replica, rollout: Rollout) -> None:
    """Have a node look in another way for a behaviour that all nodes have."""
    replica._rollout = rollout


def wrap_steps(core: ServiceCore, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace what carries out commands by ``wrap(name, function)``: of clients, servers and event handlers."""
    for holder, names in (
        (core, "receive open recover_at end_attachment send_to_all join leave"),
        (core._dispatcher, "event_handled"),
        (core.invocations, "ended"),
    ):
        for name in names.split():
            setattr(holder, name, wrap(name, getattr(holder, name)))


def wrap_commands(shared: SharedState, wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Replace the function that carries out the commands of the log by ``wrap(function)``."""
    shared._carry_out = wrap(shared._carry_out)  # type: ignore[method-assign]
