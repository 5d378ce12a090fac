from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.options import (
    Amount,
    Choice,
    Count,
    CountFromZero,
    Flag,
    Name,
    Options,
    Ratio,
    Seconds,
    SecondsFromZero,
    rule_of,
    rules_of,
)


class Shape(Enum):
    """Something to choose from."""

    ROUND = "round"
    SQUARE = "square"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Options):
    """One field for each rule."""

    stage: ClassVar[str] = "sample"

    above: Seconds = 1.0
    from_zero: SecondsFromZero | None = None
    amount: Amount = 1.0
    ratio: Ratio = 0.5
    count: Count = 1
    queue: CountFromZero | None = None
    flag: Flag = False
    name: Name = "x"
    shape: Shape = Shape.ROUND
    word: Literal["a", "b"] = "a"
    anything: Any = None


ALLOWED = [
    ("above", 0.001, 0.001),
    ("above", 3, 3),
    ("above", timedelta(minutes=1), 60.0),
    ("from_zero", 0, 0),
    ("from_zero", None, None),
    ("amount", 1e-9, 1e-9),
    ("ratio", 0, 0),
    ("ratio", 1, 1),
    ("count", 1, 1),
    ("queue", 0, 0),
    ("queue", None, None),
    ("flag", True, True),
    ("name", "search", "search"),
    ("shape", "square", Shape.SQUARE),
    ("shape", Shape.SQUARE, Shape.SQUARE),
    ("word", "b", "b"),
    ("anything", object, object),
]

REFUSED = [
    ("above", 0, "a finite number of seconds (or a timedelta) above 0"),
    ("above", timedelta(0), "a finite number of seconds (or a timedelta) above 0"),
    ("above", -1.0, "a finite number of seconds (or a timedelta) above 0"),
    ("above", math.nan, "a finite number of seconds (or a timedelta) above 0"),
    ("above", math.inf, "a finite number of seconds (or a timedelta) above 0"),
    ("above", "30s", "a finite number of seconds (or a timedelta) above 0"),
    ("above", True, "a finite number of seconds (or a timedelta) above 0"),
    ("above", None, "a finite number of seconds (or a timedelta) above 0"),
    ("above", 10**400, "a finite number of seconds (or a timedelta) above 0"),
    ("from_zero", -0.001, "a finite number of seconds (or a timedelta) of at least 0"),
    ("from_zero", -(10**400), "a finite number of seconds (or a timedelta) of at least 0"),
    ("amount", 0, "a finite number above 0"),
    ("amount", timedelta(seconds=1), "a finite number above 0"),
    ("ratio", -0.01, "a finite number from 0 to 1"),
    ("ratio", 1.01, "a finite number from 0 to 1"),
    ("count", 0, "a whole number of at least 1"),
    ("count", 2.0, "a whole number of at least 1"),
    ("count", True, "a whole number of at least 1"),
    ("count", "2", "a whole number of at least 1"),
    ("queue", -1, "a whole number of at least 0"),
    ("flag", 1, "true or false"),
    ("flag", "yes", "true or false"),
    ("name", "", "a text that is not empty"),
    ("name", "  ", "a text that is not empty"),
    ("name", 7, "a text that is not empty"),
    ("shape", "oval", "one of round, square"),
    ("word", "c", "one of a, b"),
    ("word", None, "one of a, b"),
]


@pytest.mark.parametrize(("field", "value", "stored"), ALLOWED)
def test_an_allowed_value_is_stored_in_its_canonical_form(
    field: str, value: Any, stored: Any
) -> None:
    """A timedelta becomes seconds and a word becomes its enum member."""
    sample = Sample(**{field: value})

    assert getattr(sample, field) == stored


@pytest.mark.parametrize(("field", "value", "allowed"), REFUSED)
def test_a_value_that_is_not_allowed_is_refused_when_it_is_built(
    field: str, value: Any, allowed: str
) -> None:
    """The error names the stage, the field, what is allowed and what came."""
    with pytest.raises(ConfigError) as refusal:
        Sample(**{field: value})

    assert str(refusal.value) == f"sample: '{field}' must be {allowed}; got {value!r}"


def test_a_config_error_is_a_value_error_too() -> None:
    """Code that catches ValueError for bad settings keeps working."""
    with pytest.raises(ValueError, match="'count'"):
        Sample(count=0)


def test_a_refusal_does_not_show_the_inner_error() -> None:
    """The traceback holds one error, in the words of the stage."""
    with pytest.raises(ConfigError) as refusal:
        Sample(count=0)

    assert refusal.value.__suppress_context__


def test_a_field_without_a_rule_is_left_alone() -> None:
    """Only fields annotated with a rule are checked here."""
    assert "anything" not in rules_of(Sample)


def test_a_union_of_two_rules_has_none() -> None:
    """What may be one of several kinds is checked by the stage that takes it."""
    assert rule_of(Seconds | Count | None) == (None, True)
    assert rule_of(int | str) == (None, False)


def test_a_choice_lists_its_words_in_order() -> None:
    """Schema and docs show the words, not the members."""
    assert Choice(tuple(Shape)).words == ("round", "square")
    assert Choice(("a", "b")).words == ("a", "b")


@given(st.one_of(st.floats(), st.integers(), st.none(), st.text(), st.booleans()))
def test_every_value_is_either_stored_within_bounds_or_refused(value: Any) -> None:
    """No value raises anything but ConfigError, and none out of bounds gets through."""
    try:
        stored = Sample(ratio=value).ratio
    except ConfigError:
        return

    assert 0 <= stored <= 1
