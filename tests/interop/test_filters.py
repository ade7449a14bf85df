"""OData filters, written by hand and by the helper of the JavaScript package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.interop.backend import Background
from tests.interop.conftest import Programs
from tests.interop.services import JavaScriptService, OfficialService, RestError
from tests.interop.stage import Stage

USERS = {"ann": ["red"], "bob": ["red", "blue"], "o'neil": [], None: ["blue"]}


@pytest.fixture(scope="module")
def crowd(background: Background, programs: Programs) -> Iterator[Stage]:
    """Four connections that stay as they are but for the group "found"."""
    stage = Stage(background, programs)
    for user, groups in USERS.items():
        stage.open("python-aio", user, groups=groups)
    yield stage
    stage.clear()


def found(stage: Stage, service: OfficialService, odata: str) -> set[str | None]:
    """The users of the connections that a filter selects."""
    assert isinstance(service, JavaScriptService)
    service.add_matching(["found"], odata)
    users = {connection.user_id for connection in stage.backend.service.hub("chat").members("found")}
    service.remove_matching(["found"], "")
    assert stage.members("found") == 0, "no filter selects all"
    return users


@pytest.mark.parametrize(
    ("odata", "users"),
    [
        ("userId eq 'ann'", {"ann"}),
        ("userId eq 'o''neil'", {"o'neil"}),
        ("userId eq null", {None}),
        ("userId ne null", {"ann", "bob", "o'neil"}),
        ("'red' in groups", {"ann", "bob"}),
        ("'red' in groups and not ('blue' in groups)", {"ann"}),
        ("'blue' in groups or 'red' in groups and userId eq 'ann'", {"ann", "bob", None}),
        ("('blue' in groups or 'red' in groups) and userId eq 'ann'", {"ann"}),
        ("userId in ('ann', 'bob')", {"ann", "bob"}),
        ("not (userId eq 'ann') and userId ne null", {"bob", "o'neil"}),
        ("length(userId) gt 3", {"o'neil"}),
        ("length(groups) ge 2", {"bob"}),
        ("startswith(userId, 'a') or endswith(userId, 'b')", {"ann", "bob"}),
        ("toupper(userId) eq 'ANN'", {"ann"}),
        ("contains(userId, '''')", {"o'neil"}),
        ("indexof(userId, 'o') eq 1", {"bob"}),
        ("substring(userId, 1) eq 'nn'", {"ann"}),
        ("concat(userId, '!') eq 'bob!'", {"bob"}),
        ("USERID eq 'ann'", {"ann"}),
        ("connectionId eq null", set()),
    ],
)
def test_what_filters_select(crowd: Stage, odata: str, users: set[str | None]) -> None:
    assert found(crowd, crowd.service("js"), odata) == users


@pytest.mark.parametrize("values", [["o'neil"], [None]])
def test_filters_of_the_packages_own_helper(crowd: Stage, values: list[str | None]) -> None:
    service = crowd.service("js")
    assert isinstance(service, JavaScriptService)
    assert found(crowd, service, service.odata(["userId eq ", ""], values)) == set(values)


@pytest.mark.parametrize(
    "odata",
    [
        "userId",
        "userId eq",
        "userId eq ann",
        "userId eq 'ann",
        "(userId eq 'ann'",
        "not length(userId) gt 5",
        "color eq 'red'",
        "userId eq 'ann' and",
        "userId gt 1",
        "groups eq 'red'",
        "length() eq 1",
    ],
)
def test_filters_that_are_refused(crowd: Stage, odata: str) -> None:
    for kind in ("js", "python"):
        with pytest.raises(RestError) as refused:
            crowd.service(kind).send("all", "hi", filter=odata)
        assert refused.value.status == 400


def test_groups_of_many_connections_at_once(crowd: Stage) -> None:
    service = crowd.service("js")
    assert isinstance(service, JavaScriptService)
    service.add_matching(["one", "two"], "userId ne null")
    assert (crowd.members("one"), crowd.members("two")) == (3, 3)
    service.remove_matching(["one", "two"], "'blue' in groups")
    assert (crowd.members("one"), crowd.members("two")) == (2, 2)
    service.remove_matching(["one", "two"], "")
