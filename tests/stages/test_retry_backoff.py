from __future__ import annotations

import math
import random
from statistics import median

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.stages.retry import (
    SHAPES,
    Constant,
    Decorrelated,
    Exponential,
    Fibonacci,
    Jitter,
    Linear,
    Smooth,
)

FAR = 10_000
PLAIN = {
    "constant": Constant(seconds=3, max=10),
    "linear": Linear(initial=0.5, increment=0.25, jitter="none"),
    "exponential": Exponential(initial=0.5, factor=3, jitter="none"),
    "fibonacci": Fibonacci(initial=0.5, jitter="none"),
}
DRAWN = {"decorrelated": Decorrelated(), "smooth": Smooth()}


def waits_of(shape, attempts, chance=0.5):
    """Return the first waits of one call, with the same chance every time."""
    wait = shape.waits(lambda: chance)
    return [wait(attempt) for attempt in range(1, attempts + 1)]


def never():
    """Fail where randomness must not be asked for."""
    pytest.fail("asked for randomness")


def state_at(attempt):
    """Return what a tenacity wait object looks at."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    return state


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Constant(seconds=1), [1, 1, 1, 1]),
        (Constant(seconds=0), [0, 0, 0, 0]),
        (Linear(initial=1, jitter="none"), [1, 2, 3, 4]),
        (Linear(initial=1, increment=2, jitter="none"), [1, 3, 5, 7]),
        (Linear(initial=1, increment=0, jitter="none"), [1, 1, 1, 1]),
        (Exponential(initial=1, jitter="none"), [1, 2, 4, 8]),
        (Exponential(initial=1, factor=3, max=10, jitter="none"), [1, 3, 9, 10]),
        (Exponential(initial=1, factor=1, jitter="none"), [1, 1, 1, 1]),
        (Fibonacci(initial=2, max=9, jitter="none"), [2, 2, 4, 6]),
    ],
)
def test_without_jitter_the_waits_are_the_formula(shape, expected):
    """Each shape gives the sequence that its docstring names."""
    assert waits_of(shape, 4) == expected


def test_fibonacci_goes_on_as_fibonacci():
    """Twelve steps, as anybody would write them down."""
    shape = Fibonacci(initial=1, max=100, jitter="none")

    assert waits_of(shape, 13) == [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 100, 100]


@pytest.mark.parametrize("shape", PLAIN.values(), ids=PLAIN)
def test_without_jitter_chance_is_not_asked(shape):
    """A wait that needs no chance is the same on every machine."""
    assert shape.waits(never)(1) > 0


@pytest.mark.parametrize(
    ("jitter", "chance", "expected"),
    [
        ("full", 0.0, 0.0),
        ("full", 0.5, 2.0),
        ("full", 0.999999, 4.0),
        (Jitter.EQUAL, 0.0, 2.0),
        ("equal", 0.5, 3.0),
        ("equal", 0.999999, 4.0),
        (0.1, 0.0, 3.6),
        (0.1, 0.5, 4.0),
        (0.1, 0.999999, 4.4),
        (0, 0.0, 4.0),
        (1, 0.0, 0.0),
    ],
)
def test_jitter_varies_a_wait_by_what_it_says(jitter, chance, expected):
    """Full reaches down to 0, equal to one half, a ratio of 0.1 ten per cent either way."""
    shape = Exponential(initial=1, max=100, jitter=jitter)

    assert shape.waits(lambda: chance)(3) == pytest.approx(expected, abs=1e-4)


def test_jitter_never_lifts_a_wait_above_the_limit():
    """The limit holds after chance: 10 s plus a tenth is still 10 s."""
    assert waits_of(Exponential(initial=10, max=10, jitter=0.1), 2, chance=0.99) == [10, 10]
    assert waits_of(Constant(seconds=10, max=10, jitter=0.1), 2, chance=0.99) == [10, 10]
    assert waits_of(Constant(seconds=10, jitter=0.1), 1, chance=0.0) == [9]


def test_waits_at_the_limit_still_differ():
    """Calls that have grown past the limit must not all come back in the same instant."""
    wait = Exponential(initial=1, max=10, jitter="full").waits(random.Random(1).random)

    assert len({wait(FAR) for _ in range(100)}) == 100


@pytest.mark.parametrize("shape", PLAIN.values(), ids=PLAIN)
def test_waits_are_exact_after_ten_thousand_attempts(shape):
    """Nothing overflows: the wait is the limit (or the constant) itself."""
    assert shape.waits(never)(FAR) == (3 if isinstance(shape, Constant) else shape.max)


@pytest.mark.parametrize("factor", [1.0, 1.0001, 2, 1e300])
@pytest.mark.parametrize("initial", [5e-324, 1e-3, 1e308])
def test_huge_and_tiny_numbers_neither_overflow_nor_turn_into_nan(initial, factor):
    """The whole range of floats is allowed, so it has to work."""
    shape = Exponential(initial=initial, factor=factor, max=1.7e308, jitter="full")
    for wait in (shape.waits(lambda: 0.0), shape.waits(lambda: 0.99)):
        for attempt in (1, 2, FAR):
            assert 0 <= wait(attempt) <= shape.max
    far = Fibonacci(initial=initial, max=1.7e308, jitter="none").waits(never)(FAR)
    assert math.isfinite(far)
    assert math.isfinite(Linear(initial=initial, max=1.7e308).waits(lambda: 0.5)(FAR))


@pytest.mark.parametrize("shape", DRAWN.values(), ids=DRAWN)
def test_drawn_waits_stay_within_bounds_for_ten_thousand_attempts(shape):
    """Decorrelated and smooth jitter remember, and still never leave their bounds."""
    wait = shape.waits(random.Random(3).random)

    waits = [wait(attempt) for attempt in range(1, FAR + 1)]

    assert all(0 <= seconds <= shape.max for seconds in waits)
    assert waits[-1] > 0


@pytest.mark.parametrize("shape", DRAWN.values(), ids=DRAWN)
def test_calls_that_share_a_shape_share_no_memory(shape):
    """What one call remembers must not move another call's waits."""
    alone = waits_of(shape, 5)
    first, second = shape.waits(lambda: 0.5), shape.waits(lambda: 0.5)

    mixed = [(first(attempt), second(attempt)) for attempt in range(1, 6)]

    assert mixed == list(zip(alone, alone, strict=True))


def test_decorrelated_follows_the_aws_formula():
    """``sleep = min(cap, random_between(base, sleep * 3))``, starting from base."""
    chance, check = random.Random(7), random.Random(7)
    wait = Decorrelated(initial=0.5, max=20).waits(chance.random)

    sleep = 0.5
    for attempt in range(1, 50):
        sleep = min(20.0, check.uniform(0.5, sleep * 3))
        assert wait(attempt) == pytest.approx(sleep)


def test_smooth_follows_pollys_formula():
    """The differences of ``2**t * tanh(sqrt(4t))``, scaled by the median of the first wait."""
    chance, check = random.Random(7), random.Random(7)
    wait = Smooth(initial=0.5, max=1000).waits(chance.random)

    before = 0.0
    for n in range(12):
        at = n + check.random()
        now = 2**at * math.tanh(math.sqrt(4 * at))
        assert wait(n + 1) == pytest.approx(min((now - before) * 0.5 / 1.4, 1000))
        before = now


def test_the_median_of_the_first_smooth_wait_is_near_initial():
    """Which is what the odd divisor is for; Polly's constants bring it to nine tenths."""
    chance = random.Random(11)
    shape = Smooth(initial=2, max=100)

    firsts = [shape.waits(chance.random)(1) for _ in range(4000)]

    assert median(firsts) == pytest.approx(0.9 * 2, rel=0.03)


@pytest.mark.parametrize(
    ("shape", "field", "value"),
    [
        (Exponential, "initial", 0),
        (Exponential, "initial", -1),
        (Exponential, "initial", math.nan),
        (Exponential, "max", math.inf),
        (Exponential, "factor", 0.5),
        (Exponential, "factor", math.nan),
        (Exponential, "jitter", "some"),
        (Exponential, "jitter", -0.1),
        (Exponential, "jitter", 1.1),
        (Exponential, "jitter", math.nan),
        (Exponential, "jitter", True),
        (Constant, "seconds", -1),
        (Constant, "seconds", "1"),
        (Linear, "increment", -1),
    ],
)
def test_bad_numbers_are_refused_when_a_shape_is_built(shape, field, value):
    """The error names the field, the value and what is allowed."""
    with pytest.raises(ConfigError, match=rf"retry\.wait: '{field}' must be .+; got {value!r}"):
        shape(**{field: value})


@pytest.mark.parametrize("shape", [Linear, Exponential, Fibonacci, Decorrelated, Smooth])
def test_a_limit_below_the_first_wait_is_refused(shape):
    """It would silently turn a shape into a constant."""
    with pytest.raises(ConfigError, match=r"'max' must be at least 'initial' \(20 s\); got 10"):
        shape(initial=20)


def test_every_shape_has_its_word():
    """YAML and the documentation read this table."""
    assert [shape.__name__.lower() for shape in SHAPES.values()] == list(SHAPES)


seconds = st.floats(0.001, 1000)
numbers = st.integers(1, 3000)


@given(start=seconds, increment=seconds, attempt=numbers)
def test_linear_waits_as_tenacitys_wait_incrementing(start, increment, attempt):
    """Differential: the same numbers, limit included."""
    theirs = tenacity.wait_incrementing(start=start, increment=increment, max=2000)
    ours = Linear(initial=start, increment=increment, max=2000, jitter="none")

    assert ours.waits(never)(attempt) == theirs(state_at(attempt))


@given(multiplier=seconds, base=st.floats(1, 10), attempt=numbers)
def test_exponential_waits_as_tenacitys_wait_exponential(multiplier, base, attempt):
    """Differential: the same numbers, limit included."""
    theirs = tenacity.wait_exponential(multiplier=multiplier, exp_base=base, max=2000)
    ours = Exponential(initial=multiplier, factor=base, max=2000, jitter="none")

    assert ours.waits(never)(attempt) == pytest.approx(theirs(state_at(attempt)))


@given(wait=seconds, attempt=numbers)
def test_constant_waits_as_tenacitys_wait_fixed(wait, attempt):
    """Differential."""
    theirs = tenacity.wait_fixed(wait)

    assert Constant(seconds=wait).waits(never)(attempt) == theirs(state_at(attempt))


@given(attempt=st.integers(1, 40), chance=st.floats(0, 1, exclude_max=True))
def test_full_jitter_fills_the_bounds_of_tenacitys_wait_random_exponential(attempt, chance):
    """Differential: tenacity draws between 0 and the plain wait, and so do we."""
    high = tenacity.wait_exponential(multiplier=0.5, max=60)(state_at(attempt))
    drawn = tenacity.wait_random_exponential(multiplier=0.5, max=60)(state_at(attempt))
    ours = Exponential(initial=0.5, max=60, jitter="full")

    assert 0 <= drawn <= high
    assert ours.waits(lambda: chance)(attempt) == pytest.approx(chance * high)


@given(attempt=st.integers(1, FAR), chance=st.floats(0, 1, exclude_max=True))
def test_a_ratio_keeps_the_limit_that_tenacitys_wait_exponential_jitter_keeps(attempt, chance):
    """Differential: whatever chance adds, the result is at most the limit."""
    theirs = tenacity.wait_exponential_jitter(1, max=30, jitter=0.5)(state_at(attempt))
    ours = Exponential(initial=1, max=30, jitter=0.5).waits(lambda: chance)(attempt)

    assert theirs <= 30
    assert ours <= 30
