"""Clients that ask to connect, leave, drop, recover and end while handlers answer, fail, forbid or say nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.service.backend import Backend, event, header, knock
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import EventHandler, HandlerCall, PendingConnect

HANDLER = EventHandler(url="http://app.example/{event}")
PICK = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("knock"), st.none()),
    st.tuples(st.just("leave"), PICK),
    st.tuples(st.just("answer"), st.tuples(PICK, st.sampled_from([200, 200, 204, 403, 404, 500]))),
    st.tuples(st.just("allow"), st.booleans()),
    st.tuples(st.just("fail"), st.tuples(PICK, st.sampled_from(["unreachable", "broken", "timeout", "too large"]))),
    st.tuples(st.just("raise"), PICK),
    st.tuples(st.just("drop"), st.tuples(PICK, st.sampled_from([1000, 1001, 1006, 1007]))),
    st.tuples(st.just("break"), PICK),
    st.tuples(st.just("lose"), st.tuples(PICK, st.booleans())),
    st.tuples(st.just("recover"), PICK),
    st.tuples(st.just("end"), PICK),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 1.0, 5.0, 31.0, 120.0])),
    st.tuples(st.just("shut down"), st.none()),
)


class Town:
    """A service with a handler that decides about everything, and the clients that come by.

    ``open`` are the clients that wait to be let in; ``came`` and ``told`` count, by connection id, who was let in and
    whose end the handler was told. ``excused`` are those about whom it need not be told.
    """

    def __init__(self) -> None:
        self.service = ServiceUnderTest(HANDLER)
        self.core = self.service.core
        self.backend = Backend(self.service, validates=False)
        self.open: list[PendingConnect] = []
        self.clients: list[Client] = []
        self.hellos: list[dict[str, Any]] = []
        self.came: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.excused: set[str] = set()

    def step(self, kind: str, what: Any) -> None:
        match kind:
            case "knock":
                self.open.append(knock(self.service))
            case "leave" if self.open:
                self.core.forget_connect(self.open.pop(what % len(self.open)))
            case "wait":
                self.service.advance(what)
            case "shut down":
                self.excused |= set(self.came)
                self.core.shut_down()
            case "allow":
                if not what:
                    self.excused |= set(self.came)  # a handler that forbids calls is not told
                for call in self.calls():
                    if call.method != "POST":
                        self.backend.answer(call, headers=[("WebHook-Allowed-Origin", "*" if what else "else.where")])
            case "answer" | "fail":
                self.respond(kind, *what)
            case _:
                self.trouble(kind, what)
        self.look()

    def respond(self, kind: str, which: int, how: Any) -> None:
        calls = self.calls()
        if not calls:
            return
        call = calls[which % len(calls)]
        if kind == "answer":
            self.backend.answer(call, status=how)
        else:
            self.backend.fail(how, call)

    def trouble(self, kind: str, what: Any) -> None:
        """Something happens to a client that was let in once."""
        which, how = what if isinstance(what, tuple) else (what, None)
        if not self.clients:
            return
        client, hello = (listed[which % len(self.clients)] for listed in (self.clients, self.hellos))
        match kind:
            case "raise":
                client.send(event(ackId=which + 1))
            case "drop":
                client.drop(how)
            case "break":
                self.core.transport_broken(client.transport, 1002, self.service.now)
            case "lose":
                self.core.drop(hello["connectionId"], for_good=how)
                client.drop()
            case "recover":
                self.clients[which % len(self.clients)] = self.service.recover(hello)
            case "end":
                self.core.close_connection(hello["connectionId"], "Enough.")

    def calls(self) -> list[HandlerCall]:
        """The calls that are running; each end of a connection is counted once, whatever comes of the call."""
        calls = self.backend.calls()
        for call in calls:
            if call.event == "disconnected" and call.attempts == 1:
                self.told[header(call, "ce-connectionId") or ""] = 1 + sum(
                    1 for other in calls if other is not call and other.event == "disconnected" and _same(other, call)
                )
        return calls

    def look(self) -> None:
        self.calls()
        for pending in self.core.decided_connects():
            self.open.remove(pending)  # once, and nobody who has left
            assert (pending.transport is None) is not (pending.rejection is None)
            if pending.transport is not None:
                client = Client(self.service, pending.transport)
                self.clients.append(client)
                self.hellos.append(client.hello() if pending.transport.close is None else {"connectionId": "?"})
                self.came[pending.context.connection_id] += 1
        for client in self.clients:
            client.received()

    def finish(self) -> None:
        """Everybody goes, and the handler allows and answers everything."""
        for client in self.clients:
            client.drop(1000)
        for _ in range(300):
            for call in self.calls():
                self.backend.answer(call, headers=[("WebHook-Allowed-Origin", "*")])
            self.look()
            for client in self.clients:
                client.drop(1000)
            self.service.advance(1)
            self.look()


def _same(one: HandlerCall, other: HandlerCall) -> bool:
    return header(one, "ce-connectionId") == header(other, "ce-connectionId")


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=50))
def test_every_client_is_decided_about_once_and_its_end_is_told_once(steps: list[tuple[str, Any]]) -> None:
    town = Town()
    for kind, what in steps:
        town.step(kind, what)
    town.finish()
    assert town.open == []
    assert not town.core.hubs
    assert town.core.connection_count == 0
    assert set(town.came.values()) <= {1}
    assert set(town.told.values()) <= {1}
    assert set(town.told) <= set(town.came)
    assert set(town.came) - set(town.told) <= town.excused
    assert town.backend.idle()
