from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_core.service import GroupPattern, GroupRules, InvalidPattern, Permissions


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("room", "room", True),
        ("room", "Room", False),
        ("room", "rooms", False),
        ("r?om", "room", True),
        ("r?om", "rom", False),
        ("a?b", "a.b", False),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("a*", "a.b", False),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.b.c", False),
        ("a.**", "a.b.c", True),
        ("a.**", "a", False),
        ("**.c", "a.b.c", True),
        ("**", "a\n.b", True),
        ("***", "a.b", True),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("\\\\", "\\", True),
        ("\\??", "?x", True),
        ("*a*", "bab", True),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert GroupPattern(pattern).matches(name) is fits


@pytest.mark.parametrize("pattern", ["", "a\\", "\\a", "\\.", "a" * 1025, "******", "*.*.*.**.*"])
def test_what_is_not_a_pattern(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        GroupPattern(pattern)


def test_the_limits_of_a_pattern_are_inclusive() -> None:
    assert GroupPattern("*.*.*.**").matches("a.b.c.d.e")
    assert GroupPattern("\\*" * 6).literal == "******"
    assert GroupPattern("a" * 1024).literal == "a" * 1024


def test_a_pattern_made_to_be_slow_is_not() -> None:
    assert not GroupPattern("*a*a*a*a*b").matches("a" * 1024)
    assert not GroupPattern("**a**a*b").matches("a" * 1024)


def reference(tokens: tuple[str, ...], name: str) -> bool:
    @cache
    def matches(token: int, position: int) -> bool:
        if token == len(tokens):
            return position == len(name)
        head = tokens[token]
        if head in ("*", "**"):
            if matches(token + 1, position):
                return True
            return position < len(name) and (head == "**" or name[position] != ".") and matches(token, position + 1)
        if position == len(name):
            return False
        return (name[position] != "." if head == "?" else head[-1] == name[position]) and matches(
            token + 1, position + 1
        )

    return matches(0, 0)


TOKENS = st.lists(st.sampled_from(["a", "b", ".", "?", "*", "**", "\\*", "\\?", "\\\\"]), min_size=1, max_size=8)


def legal(tokens: list[str]) -> bool:
    return tokens.count("*") + 2 * tokens.count("**") <= 5 and ("*", "*") not in pairwise(tokens)


@given(TOKENS.filter(legal), st.text("ab.*?\\", max_size=10))
def test_patterns_match_as_a_simple_reference_does(tokens: list[str], name: str) -> None:
    assert GroupPattern("".join(tokens)).matches(name) is reference(tuple(tokens), name)


def test_a_rule_for_the_very_group_goes_before_the_general_one() -> None:
    rules = GroupRules()
    rules.grant()
    rules.revoke("room")
    assert (rules.allows("room"), rules.allows("other")) == (False, True)
    rules.grant("room")
    assert rules.allows("room")
    rules.revoke()
    assert (rules.allows("room"), rules.allows("other")) == (False, False)


def test_a_single_group_under_a_pattern_can_be_denied_and_allowed_again() -> None:
    rules = GroupRules()
    rules.grant_pattern("r*")
    rules.revoke("room")
    assert (rules.allows("room"), rules.allows("rooms")) == (False, True)
    rules.grant("room")
    assert rules.allows("room")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", "*", None]))))
def test_after_granting_it_is_allowed_and_after_revoking_it_is_not(
    changes: list[tuple[bool, str | None]],
) -> None:
    rules = GroupRules()
    for grant, group in changes:
        (rules.grant if grant else rules.revoke)(group)
        if group is not None:
            assert rules.allows(group) is grant
        else:
            assert rules.allows("one that no rule names") is grant


def test_a_star_in_a_granted_group_is_a_plain_character() -> None:
    rules = GroupRules()
    rules.grant("a*")
    assert (rules.allows("a*"), rules.allows("ab")) == (True, False)


def test_roles_beyond_the_limits_give_nothing_and_grants_beyond_them_raise() -> None:
    roles = [f"webpubsub.joinLeaveGroup.g{n}" for n in range(1001)]
    roles += [f"webpubsub.sendToGroups.p{n}*" for n in range(10)]
    permissions = Permissions(roles)
    assert permissions.join_leave.allows("g999")
    assert not permissions.join_leave.allows("g1000")
    assert permissions.send.allows("p8x")
    assert not permissions.send.allows("p9x")
    with pytest.raises(ValueError, match="1000"):
        permissions.join_leave.grant("another")
    with pytest.raises(ValueError, match="9"):
        permissions.send.grant_pattern("x*")


def test_a_pattern_without_wildcards_is_a_plain_name() -> None:
    rules = GroupRules()
    rules.grant_pattern("room\\*1")
    assert [rules.allows(group) for group in ("room*1", "room-1", "room")] == [True, False, False]
    rules.revoke("room*1")
    assert not rules.allows("room*1")


def test_a_literal_group_of_a_role_may_have_dots() -> None:
    permissions = Permissions(["webpubsub.sendToGroup.a.b.c"])
    assert permissions.send.allows("a.b.c")
    assert not permissions.send.allows("a")
    assert not permissions.join_leave.allows("a.b.c")
