"""What ``using`` takes: each field checked, bounds only ever tighter."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import ConfigError, Policy
from penstock.call import Overrides
from penstock.overrides import tightened

_NOTHING = dict.fromkeys(
    ("timeout", "attempts", "cost", "priority", "key", "request_id", "tags"), None
)


def _over(base: Overrides, **given: Any) -> Overrides:
    return tightened(base, **{**_NOTHING, **given})


@pytest.mark.parametrize(
    ("field", "values", "allowed"),
    [
        ("timeout", [0, -1, math.nan, math.inf, True, "5", timedelta(0), 10**400], "above 0"),
        ("attempts", [0, -1, 1.5, 2.0, True, "3"], "a whole number of at least 1"),
        ("priority", [1.5, "high", True, math.nan], "a whole number"),
        (
            "cost",
            [-1, math.nan, math.inf, True, "5", {"tokens": -1}, {"tokens": "5"}],
            "at least 0",
        ),
        ("cost", [10**400, {"tokens": math.inf}, [1]], "a finite number"),
        ("key", ["", 5, b"key"], "a text that is not empty"),
        ("request_id", ["", 5], "a text that is not empty"),
        ("tags", ["team", {"team": 5}, {5: "team"}, [("a", "b")]], "a mapping of text to text"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(field: str, values: list[Any], allowed: str):
    """The error names the field, the value and what is allowed."""
    for value in values:
        with pytest.raises(ConfigError, match=f"^using: '{field}' must be .*{allowed}.*; got "):
            Policy().using(**{field: value})


def test_what_is_not_given_stays_as_it_was():
    """None means "no word about it", for every field."""
    base = _over(
        Overrides(),
        timeout=5,
        attempts=2,
        cost={"tokens": 9},
        priority=3,
        key="k",
        request_id="r",
        tags={"a": "1"},
    )

    assert _over(base) == base


@given(
    first=st.none() | st.floats(0.001, 1e6),
    second=st.none() | st.floats(0.001, 1e6),
    third=st.none() | st.floats(0.001, 1e6),
)
def test_the_least_of_all_timeouts_wins_in_whatever_order(
    first: float | None, second: float | None, third: float | None
):
    """A view of a view of a view can never take longer than any of them."""
    overrides = Overrides()
    for timeout in (first, second, third):
        overrides = _over(overrides, timeout=timeout)

    given_ones = [t for t in (first, second, third) if t is not None]
    assert overrides.timeout == min(given_ones, default=None)


@given(values=st.lists(st.none() | st.integers(1, 100), max_size=4))
def test_the_fewest_of_all_attempts_win(values: list[int | None]):
    """None is no bound."""
    overrides = Overrides()
    for attempts in values:
        overrides = _over(overrides, attempts=attempts)

    assert overrides.attempts == min((v for v in values if v is not None), default=None)


def test_a_timedelta_is_stored_in_seconds():
    """Stages compare numbers."""
    assert _over(Overrides(), timeout=timedelta(minutes=2)).timeout == 120


def test_nobody_can_change_an_override_from_outside():
    """Mappings are copied, and the copies cannot be written to."""
    cost, tags = {"tokens": 5.0}, {"team": "a"}
    overrides = _over(Overrides(), cost=cost, tags=tags)
    cost["tokens"], tags["team"] = 99, "b"

    assert (dict(overrides.cost), dict(overrides.tags)) == ({"tokens": 5}, {"team": "a"})  # type: ignore[call-overload]
    for mapping in (overrides.cost, overrides.tags):
        with pytest.raises(TypeError):
            mapping["new"] = "value"  # type: ignore[index]


def test_tags_are_added_to_those_before():
    """The same name is replaced."""
    base = _over(Overrides(), tags={"team": "a", "job": "1"})

    assert dict(_over(base, tags={"job": "2"}).tags) == {"team": "a", "job": "2"}
