"""Events on their way to the application, without an event loop."""

from __future__ import annotations

import pytest

from holdfast import GroupMessage
from holdfast._delivery import Delivery


def message(number: int) -> GroupMessage:
    return GroupMessage(group="g", data=number)


@pytest.mark.parametrize(("limit", "kept"), [(1, [4]), (2, [4]), (3, [3, 4]), (10, [0, 1, 2, 3, 4])])
def test_without_a_reader_the_newest_messages_are_kept_and_reading_goes_on(limit: int, kept: list[int]) -> None:
    reading: list[bool] = []
    delivery = Delivery(limit, reading.append, lambda _: None, lambda _: None)
    delivery.deliver([message(number) for number in range(5)])
    assert [item.data for item in delivery.inbox.items] == kept
    assert reading == []
