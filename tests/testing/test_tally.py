from limpet.testing._tally import Tally


def _tally_of(*numbers: int) -> Tally:
    tally = Tally()
    for number in numbers:
        tally.add(number)
    return tally


def _counts(tally: Tally) -> tuple[int, int, int]:
    return tally.delivered, tally.duplicated, tally.out_of_order


def test_messages_in_order_are_delivered_and_nothing_else():
    tally = _tally_of(0, 1, 2)
    assert _counts(tally) == (3, 0, 0)
    assert tally.lost(3) == 0


def test_a_message_that_never_came_is_lost():
    tally = _tally_of(0, 2)
    assert _counts(tally) == (2, 0, 0)
    assert tally.lost(3) == 1


def test_a_repeated_message_is_duplicated_and_not_out_of_order():
    tally = _tally_of(0, 1, 0)
    assert _counts(tally) == (3, 1, 0)
    assert tally.lost(2) == 0


def test_a_late_message_is_out_of_order_and_not_lost():
    tally = _tally_of(0, 2, 1, 3)
    assert _counts(tally) == (4, 0, 1)
    assert tally.lost(4) == 0
