from __future__ import annotations

import time

import pytest

from penstock import clock


def test_the_real_clock_is_monotonic_time() -> None:
    """Nothing stands between a stage and ``time.monotonic`` in production."""
    assert clock.now is time.monotonic


def test_a_replaced_clock_is_read_inside_the_block_only() -> None:
    """The source counts inside the block; the real clock is back after it."""
    with clock.replaced_by(lambda: 42.0):
        inside = clock.now()

    assert inside == 42.0
    assert clock.now is time.monotonic


def test_the_real_clock_is_back_after_an_error() -> None:
    """An exception in the block does not leave the replacement behind."""
    with pytest.raises(ValueError, match="boom"), clock.replaced_by(lambda: 42.0):
        raise ValueError("boom")

    assert clock.now is time.monotonic


def test_nested_replacements_come_off_one_by_one() -> None:
    """The innermost source counts, then the one outside it."""
    with clock.replaced_by(lambda: 1.0):
        with clock.replaced_by(lambda: 2.0):
            innermost = clock.now()
        outer = clock.now()

    assert (innermost, outer) == (2.0, 1.0)


def test_one_replacement_can_be_entered_twice() -> None:
    """The same block may be entered again inside itself."""
    replacement = clock.replaced_by(lambda: 1.0)

    with replacement, replacement:
        pass

    assert clock.now is time.monotonic


def test_replacements_may_leave_in_the_order_they_came() -> None:
    """Two loops in two threads overlap: the first to leave does not bring back its own past."""
    first, second = clock.replaced_by(lambda: 1.0), clock.replaced_by(lambda: 2.0)

    first.__enter__()
    second.__enter__()
    first.__exit__()
    still_second = clock.now()
    second.__exit__()

    assert still_second == 2.0
    assert clock.now is time.monotonic
