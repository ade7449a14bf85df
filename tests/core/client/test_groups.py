"""The list of groups is made once for each change, and never stays behind one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from simulation.inspect import inspect
from tests.helpers.driving import Drive, hello, ok, refused

from limpet_core.client.groups import Groups


def connected() -> Drive:
    drive = Drive()
    drive.start()
    drive.connect()
    return drive


def join(drive: Drive, group: str) -> None:
    key = drive.session.join_group(group, drive.now)
    drive.sent()
    drive.says(ok(key))


def test_the_groups_are_listed_once_for_each_change() -> None:
    drive = connected()
    assert drive.session.groups == frozenset()
    join(drive, "a")
    first = drive.session.groups
    assert first == {"a"}
    assert drive.session.groups is first
    join(drive, "b")
    assert drive.session.groups == {"a", "b"}
    assert first == {"a"}, "what was returned does not change"
    key = drive.session.leave_group("a", drive.now)
    drive.sent()
    drive.says(ok(key))
    assert drive.session.groups == {"b"}
    drive.session.stop(drive.now)
    drive.session.disconnected(drive.now)
    assert drive.session.groups == frozenset()


def test_whatever_changed_since_they_were_listed_is_in_the_list() -> None:
    for steps in product(["join a", "join b", "leave a", "leave all", "list"], repeat=4):
        groups, expected = Groups(), frozenset[str]()
        for step in steps:
            if step.startswith("join"):
                groups.join(step[-1])
                expected |= {step[-1]}
            elif step == "leave a":
                groups.leave("a")
                expected -= {"a"}
            elif step == "leave all":
                groups.leave_all()
                expected = frozenset()
            else:
                assert groups.listed() == expected, steps
        assert groups.listed() == expected, steps


class Changing(dict[str, None]):
    """Groups of which one is joined while another thread lists them."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(first=None)
        self.groups = groups
        self.changed = False

    def __iter__(self) -> Iterator[str]:
        names = list(super().__iter__())
        if not self.changed:
            self.changed = True
            self.groups.join("second")
        return iter(names)


def test_a_change_while_the_groups_are_listed_is_not_missed() -> None:
    groups = Groups()
    groups.joined = Changing(groups)
    groups.leave("none")
    assert groups.listed() == {"first"}
    assert groups.listed() == {"first", "second"}


def test_groups_whose_leaves_are_pending_are_joined_again_if_these_fail() -> None:
    drive = connected()
    join(drive, "a")
    join(drive, "b")
    leaves = [drive.session.leave_group(group, drive.now) for group in ("a", "b")]
    drive.sent()
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert [said["type"] for said in drive.sent()] == ["leaveGroup", "leaveGroup"]
    drive.says(*[refused(key, "Forbidden") for key in leaves])
    drive.advance(0.0)
    assert [(said["type"], said["group"]) for said in drive.sent()] == [("joinGroup", "a"), ("joinGroup", "b")]
    assert not inspect(drive.session).rejoins
