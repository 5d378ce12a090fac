"""A refund of a start that a shorter window had forgotten let too many starts through."""

from __future__ import annotations

from penstock.stages.rate_limit.limits import SlidingWindow
from penstock.stages.rate_limit.rate import Rate


def test_a_start_that_has_been_forgotten_has_nothing_to_give_back():
    """The window was made longer after the start had left it, and before its refund."""
    window = SlidingWindow(Rate(2, per=1))
    forgotten = window.try_take(0.0, 1)
    window.try_take(1.5, 1)
    window.change(Rate(2, per=10), None, 1.6)
    assert forgotten is not None

    window.give_back(1.7, forgotten, 1)

    assert window.available(1.7) == 1
    assert window.try_take(1.7, 1) is not None
    assert window.try_take(1.7, 1) is None


def test_a_start_that_the_longer_window_knows_still_gives_back():
    """Also one in the very moment of the change."""
    window = SlidingWindow(Rate(2, per=1))
    kept = window.try_take(1.0, 1)
    window.change(Rate(2, per=10), None, 1.0)
    assert kept is not None

    window.give_back(5.0, kept, 1)

    assert window.available(5.0) == 2
