"""The states of groups: seen by all who watch them, through cuts and reconnects."""

from __future__ import annotations

from typing import Any

import anyio

from limpet import Disconnected, GroupStatesChanged, InvalidType, InvalidValue, LocalProtocolError, Recovered, SendError
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, raises, soon
from limpet.testing.contract.subject import GROUP, Subject


async def _become(client: Subject, **state: str) -> None:
    await client.call("set_group_state", GROUP, state)


def _seen(client: Subject) -> dict[str, Any]:
    """Return the states that the client knows, by connection id; empty without a subscription."""
    try:
        return {name: each.state for name, each in client.states(GROUP).items()}
    except LocalProtocolError:
        return {}


async def _settled(*clients: Subject, harness: Harness) -> None:
    """Wait until all know what the service knows."""
    await soon(lambda: all(_seen(each) == harness.service.group_states(GROUP) for each in clients), "the same states")


@check("tls", needs=("group states",))
async def a_state_is_seen_replaced_and_cleared(harness: Harness) -> None:
    async with harness.client() as ann, harness.client() as bob:
        for each in (ann, bob):
            await each.join()
            await each.call("subscribe_group_states", GROUP)
        await _become(ann, status="typing", at="12")
        await soon(lambda: _seen(bob) == {ann.connection_id: {"status": "typing", "at": "12"}})
        await _become(ann, status="away")
        await _become(bob)
        await soon(lambda: _seen(ann) == {ann.connection_id: {"status": "away"}, bob.connection_id: {}})
        await ann.call("clear_group_state", GROUP)
        await soon(lambda: set(_seen(bob)) == {bob.connection_id})
        await ann.call("unsubscribe_group_states", GROUP)
        with raises(LocalProtocolError):
            ann.states(GROUP)


@check(needs=("group states",))
async def of_several_states_the_last_one_wins(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(client.call, "set_group_state", GROUP, {"number": str(number)})
                await anyio.sleep(0.002)
                if number == 10:
                    harness.service.cut()
        # Calls of threads have no order; the last one to begin was made on its own.
        await _become(client, number="last")
        assert list(harness.service.group_states(GROUP).values()) == [{"number": "last"}]


@check(needs=("group states",))
async def wrong_states_are_refused_at_once(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        for state, error in (({"a": 1}, InvalidType), (["a"], InvalidType), ({"a": "x" * 9000}, InvalidValue)):
            with raises(error):
                await client.call("set_group_state", GROUP, state)
        with raises(LocalProtocolError):
            client.states(GROUP)
        with raises(SendError) as refused:
            await client.call("set_group_state", "not joined", {})
        assert (refused.error.name, refused.error.outcome) == ("Forbidden", "rejected")


@check(needs=("group states",))
async def changes_are_told_to_callbacks_from_the_first_snapshot_on(harness: Harness) -> None:
    async with harness.client() as ann, harness.client() as bob:
        await ann.join()
        await bob.join()
        log = Log(bob, GroupStatesChanged)
        await bob.call("subscribe_group_states", GROUP)
        first = await log.wait(GroupStatesChanged)
        assert (first.group, first.changed, first.removed) == (GROUP, (), ())
        await _become(ann, a="1")
        changed = (await log.wait(GroupStatesChanged, 2)).changed
        assert [(each.connection_id, each.state) for each in changed] == [(ann.connection_id, {"a": "1"})]
        gone = ann.connection_id
        await ann.call("stop")
        assert (await log.wait(GroupStatesChanged, 3)).removed == (gone,)


@check(needs=("group states", "streams"))
async def a_watch_is_a_live_mapping_with_its_changes(harness: Harness) -> None:
    async with harness.client() as ann, harness.client() as bob:
        await ann.join()
        await bob.join()
        await _become(ann, a="1")
        async with bob.watch() as (states, changes):
            first = await anext(changes)
            assert [each.state for each in first.changed] == [{"a": "1"}]
            assert {name: each.state for name, each in states.items()} == {ann.connection_id: {"a": "1"}}
            await ann.call("clear_group_state", GROUP)
            assert (await anext(changes)).removed == (ann.connection_id,)
            assert (len(states), list(states), ann.connection_id in states) == (0, [], False)
            changeable: Any = states
            with raises(TypeError):
                changeable["x"] = changeable
        await soon(lambda: _seen(bob) == {} and len(states) == 0)


@check(needs=("group states", "streams"))
async def the_last_watch_of_a_group_unsubscribes(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        await _become(client, a="1")
        async with client.watch() as (states, _):
            async with client.watch() as (_, changes):
                await anext(changes)
            await _become(client, a="2")
            await soon(lambda: [each.state for each in states.values()] == [{"a": "2"}])

        def unsubscribed() -> bool:
            try:
                client.states(GROUP)
            except LocalProtocolError:
                return True
            return False

        await soon(unsubscribed)


@check(needs=("group states",))
async def states_are_the_service_s_after_a_recovery(harness: Harness) -> None:
    async with harness.client() as ann, harness.undisturbed() as bob:
        await ann.join()
        await bob.join()
        await _become(ann, who="ann")
        await _become(bob, who="bob")
        await ann.call("subscribe_group_states", GROUP)
        await _settled(ann, harness=harness)
        log = Log(ann, Recovered)
        for number in range(3):
            harness.service.refuse()
            harness.service.cut()
            await _become(bob, number=str(number))
            harness.service.accept()
            await log.wait(Recovered, number + 1)
            await _settled(ann, harness=harness)
        assert len(_seen(ann)) == 2


@check(needs=("group states",))
async def after_a_reconnect_the_own_state_is_set_again_and_others_are_seen(harness: Harness) -> None:
    async with harness.client() as ann, harness.client() as bob:
        for each in (ann, bob):
            await each.join()
            await each.call("subscribe_group_states", GROUP)
        await _become(ann, who="ann")
        await _settled(ann, bob, harness=harness)
        before, log = ann.connection_id, Log(ann, Disconnected)
        assert before is not None
        harness.service.end(before)
        await log.wait(Disconnected)
        await soon(lambda: list(harness.service.group_states(GROUP).values()) == [{"who": "ann"}])
        await _settled(ann, bob, harness=harness)
        assert before not in _seen(bob)
        assert _seen(ann) == {ann.connection_id: {"who": "ann"}}


@check(needs=("group states",))
async def without_auto_restore_group_states_the_own_state_is_gone_after_a_reconnect(harness: Harness) -> None:
    async with harness.client(auto_restore_group_states=False) as ann, harness.client() as bob:
        for each in (ann, bob):
            await each.join()
        await _become(ann, who="ann")
        await bob.call("subscribe_group_states", GROUP)
        await _settled(bob, harness=harness)
        before, log = ann.connection_id, Log(ann, Disconnected)
        assert before is not None
        harness.service.end(before)
        await log.wait(Disconnected)
        await soon(lambda: ann.connection_id in harness.service.members(GROUP))
        await ann.join()
        await soon(lambda: _seen(bob) == {})
        assert harness.service.group_states(GROUP) == {}
