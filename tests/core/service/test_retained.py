"""What is retained for a client has the same limits however it is counted: each way is compared with a plain one."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from limpet_core.protocol.names import RELIABLE_JSON
from limpet_core.service import ClientGrant, Limits, Publication, RawMode, group_publication
from limpet_core.service.connections.backlog import Backlog
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.transport import Transport

PUBLICATIONS = [group_publication("g", "ann", "json", b'"%b"' % (b"x" * more)) for more in (0, 1, 50, 200)]
LARGEST_ID = 2**64 - 1

# At the size of some messages, one below, one above.
LIMITS_IN_BYTES = st.builds(
    lambda listed, more: sum(publication.size for publication in listed) + more,
    st.lists(st.sampled_from(PUBLICATIONS), min_size=1, max_size=4),
    st.sampled_from([-1, 0, 0, 1]),
)


class Plain:
    """Counts everything anew each time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.sizes: list[int] = []
        self.sequence_id = 0

    def deliver(self, publication: Publication) -> bool:
        sizes = [*self.sizes, publication.size]
        if len(sizes) > self._limits.retained_messages or sum(sizes) > self._limits.retained_bytes:
            return False
        self.sizes = sizes
        self.sequence_id += 1
        return True

    def acknowledge(self, sequence_id: int) -> None:
        ids = range(self.sequence_id - len(self.sizes) + 1, self.sequence_id + 1)
        self.sizes = [size for each, size in zip(ids, self.sizes, strict=True) if each > sequence_id]


def connection(limits: Limits) -> Connection:
    return Connection("h", "c", RELIABLE_JSON, ClientGrant("ann"), RawMode(), limits)


def attached(limits: Limits) -> Connection:
    made = connection(limits)
    made.attach(Transport([], None, made))
    return made


def restored(old: Connection, limits: Limits) -> Connection:
    made = connection(limits)
    made.retain(old.retained_messages, old.sequence_id)
    return made


def share(backlog: Backlog[Connection], member: Connection, publication: Publication) -> bool:
    """Deliver a message as a group does to members at other nodes."""
    return all(each.deliver(publication) for each in backlog.receivers([member], publication))


@given(
    st.integers(1, 5),
    LIMITS_IN_BYTES,
    st.lists(
        st.one_of(
            st.sampled_from(PUBLICATIONS),
            st.integers(-6, 6),  # an acknowledgement, counted from the newest message
            st.just(LARGEST_ID),
            st.sampled_from(["restore", "alone"]),
        ),
        max_size=40,
    ),
)
@example(5, 3 * PUBLICATIONS[0].size, [*PUBLICATIONS[:1] * 3, -2, *PUBLICATIONS[:1]])
def test_each_way_of_counting_has_the_same_limits(
    messages: int, size: int, steps: list[Publication | int | str]
) -> None:
    limits = Limits(retained_messages=messages, retained_bytes=size)
    plain, here, away, sharing = Plain(limits), attached(limits), connection(limits), connection(limits)
    backlog: Backlog[Connection] = Backlog()
    alone = False
    for step in steps:
        if isinstance(step, Publication):
            fits = plain.deliver(step)
            shared = sharing.deliver(step) if alone else share(backlog, sharing, step)
            assert [here.deliver(step), away.deliver(step), shared] == [fits] * 3
            if not fits:
                return  # the connection ends
        elif isinstance(step, int):
            sequence_id = step if step == LARGEST_ID else max(plain.sequence_id + step, 0)
            for each in (plain, here, away, sharing):
                each.acknowledge(sequence_id)
        elif step == "restore":
            away = restored(away, limits)
        else:
            alone = not alone
        for each in (here, away):  # the one that shares takes its messages when it has to
            assert each.retained == len(plain.sizes)
            assert each.sequence_id == plain.sequence_id
    for each in (here, away, sharing):
        assert each.retained_bytes == sum(plain.sizes)
        assert [publication.size for publication in each.retained_messages] == plain.sizes


@given(
    st.lists(st.sampled_from(PUBLICATIONS), max_size=12),
    *[st.integers(0, 14)] * 3,
    st.integers(1, 12),
    LIMITS_IN_BYTES,
)
@example(PUBLICATIONS[:1] * 3, 0, 1, 0, 12, 2 * PUBLICATIONS[0].size)
def test_too_much_is_unacknowledged_exactly_where_it_is(
    publications: list[Publication], released: int, acknowledged: int, replayed_to: int, messages: int, size: int
) -> None:
    client = attached(Limits())
    for publication in publications:
        client.deliver(publication)
    client.acknowledge(released)
    limits = Limits(retained_messages=messages, retained_bytes=size)
    left = publications[max(released, acknowledged, replayed_to) :]
    too_much = len(left) > messages or sum(publication.size for publication in left) > size
    assert not (too_much and client.retains_little(limits))
    assert client.unacknowledged_beyond(acknowledged, replayed_to, limits) is too_much
