"""How often a worker may be started anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.workers.restarts import Restarts

DELAYS = (0.0, 1.0, 5.0)


def test_delays_grow_and_the_last_one_goes_on() -> None:
    """Each restart in a row waits as long as its step says."""
    restarts = Restarts(DELAYS, 9, 60)

    delays = [restarts.next_delay(0.0) for _ in range(5)]

    assert delays == [0, 1, 5, 5, 5]


def test_one_more_than_allowed_within_the_window_is_too_many() -> None:
    """The intensity of Erlang's supervisors: so many restarts in so many seconds."""
    restarts = Restarts((0.0,), 2, 60)
    for now in (0.0, 30.0):
        restarts.next_delay(now)
        restarts.come_up(now)

    within = restarts.next_delay(59.9)
    restarts.come_up(59.9)
    after = restarts.next_delay(60.0)

    assert (within, after) == (None, 0.0)


def test_restarts_in_vain_are_too_many_however_long_each_took() -> None:
    """A start that hangs for longer than the window must not go on for ever."""
    restarts = Restarts((0.0,), 3, 60)

    delays = [restarts.next_delay(now) for now in (0.0, 300.0, 600.0, 900.0)]

    assert delays == [0, 0, 0, None]


def test_a_worker_that_was_up_for_a_window_is_as_good_as_new() -> None:
    """Its next restart is the first one again."""
    restarts = Restarts(DELAYS, 9, 60)
    for now in (0.0, 1.0):
        restarts.next_delay(now)
    restarts.come_up(10.0)

    delay = restarts.next_delay(70.0)

    assert delay == 0


def test_a_worker_that_was_up_for_less_waits_longer() -> None:
    """Crashing every half minute is still crashing in a row."""
    restarts = Restarts(DELAYS, 9, 60)
    restarts.next_delay(0.0)
    restarts.come_up(0.0)

    delay = restarts.next_delay(59.0)

    assert delay == 1


def test_forgotten_restarts_do_not_count() -> None:
    """Somebody has seen to it: the worker begins anew."""
    restarts = Restarts(DELAYS, 2, 60)
    while restarts.next_delay(0.0) is not None:
        pass

    restarts.forget()

    assert restarts.next_delay(0.0) == 0


@given(
    steps=st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60),
    most=st.integers(1, 6),
    window=st.floats(1, 120),
)
def test_no_window_ever_holds_more_restarts_than_allowed(
    steps: list[tuple[float, bool]], most: int, window: float
) -> None:
    """Whatever happens, neither the window nor a row of failed starts holds more than allowed."""
    restarts = Restarts(DELAYS, most, window)
    times: list[float] = []
    now, in_vain = 0.0, 0

    for wait, comes_up in steps:
        now += wait
        delay = restarts.next_delay(now)
        recent = [time for time in times if time > now - window]
        if delay is None:
            assert len(recent) >= most or in_vain >= most
            restarts.forget()
            times, in_vain = [], 0
            continue
        assert delay in DELAYS
        assert len(recent) < most
        assert in_vain < most
        times.append(now)
        in_vain += 1
        if comes_up:
            restarts.come_up(now)
            in_vain = 0
