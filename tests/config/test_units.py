from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.problems import Mistake, Reference
from penstock.config.scalars import read_plain
from penstock.config.units import (
    read_duration,
    read_number,
    read_rate,
    read_whole,
    write_duration,
)
from penstock.stages.rate_limit import Rate

DURATIONS = {
    "200ms": 0.2,
    "1.5s": 1.5,
    "5m": 300,
    "1h": 3600,
    "1d": 86400,
    "1m30s": 90,
    "1d2h3m4s5ms": 93784.005,
    "0": 0,
    "0s": 0,
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_a_duration_is_read_with_its_unit(text, seconds):
    """Every unit, and several of them from the largest down."""
    assert read_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("zero", [0, 0.0])
def test_zero_needs_no_unit(zero):
    """Nothing is nothing in every unit."""
    assert read_duration(zero) == 0


WRONG_DURATIONS = [
    (30, "a duration needs a unit", "write 30s if you mean seconds"),
    (1.5, "a duration needs a unit", "write 1.5s if you mean seconds"),
    ("30 secs", "unknown time unit 'secs'", "did you mean '30s'?"),
    ("5 Minutes", "unknown time unit 'Minutes'", "did you mean '5m'?"),
    ("2hrs", "unknown time unit 'hrs'", "did you mean '2h'?"),
    ("30S", "unknown time unit 'S'", "did you mean '30s'?"),
    ("3 weeks", "unknown time unit 'weeks'", "the units are ms, s, m, h and d"),
    ("30 s", "expected a duration such as '1m30s'; got '30 s'", "did you mean '30s'?"),
    ("30s1m", "expected a duration such as '1m30s'; got '30s1m'", "did you mean '1m30s'?"),
    ("1m30", "the 30 in '1m30' has no unit", "did you mean '1m30s'?"),
    ("30", "the 30 in '30' has no unit", "did you mean '30s'?"),
    ("-3s", "expected a duration such as '30s'; got '-3s'", None),
    ("", "expected a duration such as '30s'; got ''", None),
    ("soon", "expected a duration such as '30s'; got 'soon'", None),
    (True, "expected a duration such as '30s'; got true", None),
    (None, "expected a duration such as '30s'; got null", None),
    ([1], "expected a duration such as '30s'; got a list", None),
    ({"a": 1}, "expected a duration such as '30s'; got a mapping", None),
    (
        Reference.of("7 secrets", "${X}"),
        "expected a duration such as '30s'; got the value of '${X}'",
        None,
    ),
]


@pytest.mark.parametrize(("value", "message", "hint"), WRONG_DURATIONS)
def test_a_wrong_duration_is_refused_with_the_right_one(value, message, hint):
    """What was probably meant is said in the very form that can be pasted."""
    with pytest.raises(Mistake) as caught:
        read_duration(value)

    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_text_of_a_million_digits_is_refused_at_once():
    """Neither converted nor shown in full."""
    with pytest.raises(Mistake) as caught:
        read_duration("9" * 1_000_000 + "s")

    assert len(caught.value.message) < 150


@given(st.floats(0, 1e7))
def test_what_is_written_for_seconds_is_read_as_the_same_seconds(seconds):
    """Defaults of the reference page can be pasted into a file."""
    text = write_duration(round(seconds, 3))

    assert read_duration(text) == pytest.approx(round(seconds, 3), rel=1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (0.2, "200ms"),
        (1.5, "1.5s"),
        (90, "90s"),
        (120, "2m"),
        (7200, "2h"),
        (86400, "1d"),
    ],
)
def test_seconds_are_written_in_the_largest_whole_unit(seconds, text):
    """Two minutes are two minutes, ninety seconds are ninety seconds."""
    assert write_duration(seconds) == text


RATES = {
    "10/s": Rate(10, 1),
    "600/min": Rate(600, 60),
    "100/10s": Rate(100, 10),
    "10/second": Rate(10, 1),
    "10 per minute": Rate(10, 60),
    "2.5/s": Rate(2.5, 1),
}


@pytest.mark.parametrize(("text", "rate"), RATES.items())
def test_a_rate_is_read_in_each_of_its_forms(text, rate):
    """The short ones, and the long ones that users of other libraries know."""
    assert read_rate(text) == rate


WRONG_RATES = [
    (10, "a rate needs a unit", "write 10/s if you mean per second"),
    ("10/sx", "unknown time unit 'sx' in the rate", "did you mean '10/s'?"),
    ("10/secnd", "unknown time unit 'secnd' in the rate", "did you mean '10/second'?"),
    ("100/10sx", "unknown time unit 'sx' in the rate", "did you mean '100/10s'?"),
    ("3/week", "unknown time unit 'week' in the rate", "the units are ms, s, m, h and d"),
    ("10/", "the time in the rate has no unit", "did you mean '10/s'?"),
    ("0/s", "a rate must be above 0; got '0/s'", None),
    ("fast", "expected a rate such as '10/s'; got 'fast'", None),
    (None, "expected a rate such as '10/s'; got null", None),
    (Reference.of("1/sx", "${R}"), "expected a rate such as '10/s'; got the value of '${R}'", None),
]


@pytest.mark.parametrize(("value", "message", "hint"), WRONG_RATES)
def test_a_wrong_rate_is_refused_with_the_right_one(value, message, hint):
    """As for durations."""
    with pytest.raises(Mistake) as caught:
        read_rate(value)

    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("text", "number"),
    [("20", 20), ("2.5", 2.5), ("1e3", 1000), ("50%", 0.5), ("7 %", 0.07), ("x", "x"), (3, 3)],
)
def test_a_text_can_stand_for_a_number(text, number):
    """What comes out of the environment is text."""
    assert read_number(text) == number


@pytest.mark.parametrize(("text", "number"), [("20", 20), ("-1", -1), ("2.5", "2.5"), (None, None)])
def test_a_text_can_stand_for_a_whole_number(text, number):
    """Half a call is none."""
    assert read_whole(text) == number


PLAIN = {
    "on": "on", "off": "off", "yes": "yes", "no": "no", "y": "y",
    "12:30:45": "12:30:45", "1_000": "1_000", "2024-01-01": "2024-01-01", "0b1": "0b1",
    "true": True, "False": False, "null": None, "~": None, "": None,
    "12": 12, "-7": -7, "+1": 1, "012": 12, "0o17": 15, "0xff": 255,
    "1.5": 1.5, "1.": 1.0, ".5": 0.5, "1e3": 1000.0, "-1.5e-3": -0.0015,
    ".inf": math.inf, "-.INF": -math.inf,
    "9" * 400: math.inf,
}  # fmt: skip


@pytest.mark.finding(9)
@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_plain_scalars_are_those_of_yaml_1_2(text, value):
    """``on`` is a text and a number is a number, whatever YAML 1.1 made of them."""
    read = read_plain(text)

    assert read == value
    assert type(read) is type(value)


def test_not_a_number_is_read_as_what_it_is():
    """The options refuse it, with a message of their own."""
    assert math.isnan(read_plain(".nan"))
