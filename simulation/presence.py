"""States of groups in a run: what applications set and watch, and what they are told of it."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any, ClassVar, Final

from limpet import (
    Acked,
    Connected,
    GroupState,
    GroupStatesChanged,
    LocalProtocolError,
    RejoinGroupFailed,
    State,
)
from simulation.oracle import Ask, SessionOracle
from simulation.witness import Asked, Witness

GROUPS: Final = ("room", "side")


class Presence(Witness):
    """Sets and clears states, watches those of others, and compares what it is told with what the service knows.

    Attributes:
        watched: the groups whose states are subscribed, as the application was told.
        shown: the states of each group, as the events tell them.
        own: the own state in "room", as it was set last; None: there is none.
        unsure: whether the service may have another one.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.watched: set[str] = set()
        self.shown: dict[str, dict[str, GroupState]] = {group: {} for group in GROUPS}
        self.own: dict[str, str] | None = None
        self.unsure = False
        self._newest: dict[tuple[str, str], float] = {}  # by group and connection
        self._owed: set[str] = set()  # groups whose first event is to come
        self._doubtful: set[str] = set()  # nobody knows whether the service has ended the subscription

    def ask_about(self, kind: str, group: str, make: Any, state: dict[str, str] | None = None) -> Asked:
        """Make a request about states, if the session takes one."""
        raise NotImplementedError

    # ---- What the application does

    def change_state(self, random: Random) -> None:
        """Set or clear the own state, once or several times, or begin or end to watch those of others."""
        session, now = self.session, self.clock.now
        group = "room" if random.random() < 0.8 else "side"
        kind = "own state" if group == "room" else "side state"
        what = random.random()
        if what < 0.5:
            for _ in range(random.choice([1, 1, 2, 5])):
                state = {"n": str(next(self.ledger.numbers))}
                self.ask_about(kind, group, lambda asked: session.set_group_state(
                    group, asked.state, now, user_data=asked
                ), state)  # fmt: skip
        elif what < 0.6:
            self.ask_about(kind, group, lambda asked: session.clear_group_state(group, now, user_data=asked))
        elif what < 0.9:
            self.watch(group)
        else:
            self.ask_about("unwatch", group, lambda asked: session.unsubscribe_group_states(
                group, now, user_data=asked
            ))  # fmt: skip

    def watch(self, group: str) -> None:
        asked = self.ask_about("watch", group, lambda asked: self.session.subscribe_group_states(
            group, self.clock.now, user_data=asked
        ))  # fmt: skip
        if asked.ack_id is not None:
            self._owed.add(group)

    # ---- What the session tells

    def saw_all(self, events: Iterable[Any]) -> None:
        events = list(events)
        super().saw_all(events)
        if events:
            for group in GROUPS:
                self._check_shown(group)

    def _check_shown(self, group: str) -> None:
        try:
            known = dict(self.session.group_states(group))
        except LocalProtocolError:
            known = {}
            assert group not in self.watched, "the states of a subscribed group are there"
        assert known == self.shown[group], "the events tell all that changes"

    def states_changed(self, event: GroupStatesChanged) -> None:
        shown = self.shown[event.group]
        assert event.error is None, "nothing but the application ends a subscription here"
        assert not set(event.removed) & {state.connection_id for state in event.changed}
        for state in event.changed:
            key = event.group, state.connection_id
            assert state.state is not None, "what is removed is told as that"
            assert shown.get(state.connection_id) != state, "what changes is different"
            assert self._newest.get(key, -1) < state.updated_at, "an older state never replaces a newer one"
            self._newest[key] = state.updated_at
            shown[state.connection_id] = state
        for connection_id in event.removed:
            assert connection_id in shown, "what is removed was there"
            del shown[connection_id]
        self._owed.discard(event.group)

    def acked(self, event: Acked) -> Ask:
        asked = super().acked(event)
        assert isinstance(asked, Asked)
        done = event.error is None
        if asked.kind == "own state":
            if done:
                self.own, self.unsure = asked.state, False
            elif event.error is not None and event.error.outcome == "unknown":
                self.own, self.unsure = asked.state, True  # this is what the next connection has
        elif asked.kind == "watch":
            if done:
                self.watched.add(asked.group)
                self._doubtful.discard(asked.group)
            else:
                self._owed.discard(asked.group)
                if asked.group not in self.watched:  # what it has told is gone, and may come again
                    self._forget(asked.group)
        elif asked.kind == "unwatch" and done:
            self.watched.discard(asked.group)
            self._forget(asked.group)
        elif asked.kind == "unwatch" and event.error is not None and event.error.outcome == "unknown":
            self._doubtful.add(asked.group)  # the application was told so
        return asked

    def connected(self, event: Connected) -> None:
        super().connected(event)
        self._doubtful.clear()  # all that counts as watched is subscribed anew
        self.unsure = not self.in_room  # else it was told that nobody knows, and the group is not joined again
        if not self.options.auto_restore_group_states:
            self.own = None

    def not_rejoined(self, event: RejoinGroupFailed) -> None:
        super().not_rejoined(event)
        if event.group == "room":
            self.unsure = True

    def stopped(self, event: Any) -> None:
        super().stopped(event)
        self.own, self.unsure = None, False
        self.watched.clear()
        self._owed.clear()
        self._doubtful.clear()
        for group in GROUPS:
            assert not self.shown[group], "the end of a subscription removes all states, before Stopped"
            self._forget(group)

    def _forget(self, group: str) -> None:
        for key in [key for key in self._newest if key[0] == group]:
            del self._newest[key]

    # ---- At the end

    def _truth(self, group: str) -> dict[str, Any]:
        return {each: dict(state) for each, state in self.service.core.group_states("chat", group).items()}

    def _told(self, group: str) -> dict[str, Any]:
        return {each: state.state for each, state in self.shown[group].items()}

    @property
    def states_differ(self) -> bool:
        """Whether the service knows other states than the session, or one is still to be told."""
        running = self.session.state is State.CONNECTED
        return running and any(
            self._told(group) != self._truth(group) or group in self._owed for group in self.watched - self._doubtful
        )

    def check_caught_up(self) -> None:
        super().check_caught_up()
        for group in self.watched - self._doubtful:
            assert self._told(group) == self._truth(group), f"{self.name} sees the states in {group} as they are"
            assert group not in self._owed, "the first event of a subscription comes, even if there are no states"
        if not self.unsure:
            own = self._truth("room").get(self.connection_id or "")
            assert own == self.own, f"the own state of {self.name} is as it was last set"

    _HANDLERS: ClassVar[dict[type, str]] = SessionOracle._HANDLERS | {GroupStatesChanged: "states_changed"}
