"""Asking a rate limit what is free dropped its old starts: two threads at once would break it."""

from __future__ import annotations

from penstock.stages.rate_limit.limits import SlidingWindow
from penstock.stages.rate_limit.rate import Rate


def test_asking_what_is_free_changes_nothing():
    """An exporter of metrics asks in its own thread, while calls start in the loop's."""
    window = SlidingWindow(Rate(3))
    window.try_take(0.0, 1)
    window.try_take(0.5, 1)
    starts = [*window._starts]

    free = [window.available(now) for now in (0.9, 1.2, 2.0)]

    assert free == [1, 2, 3]
    assert [*window._starts] == starts
