from __future__ import annotations

import math
from collections import deque
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from penstock.errors import ConfigError
from penstock.pools.options import PICKS, PoolOptions
from penstock.pools.resource import Resource


class Mine:
    """A picker of the user's."""

    def pick(self, key: str | None, now: float) -> None: ...


def plain(*_: object) -> str:
    """Answer at once."""
    return "x"


async def waits(*_: object) -> str:
    """Answer to whoever awaits it."""
    return "x"


class Instance:
    """An object that is called like an async function."""

    async def __call__(self, _: object) -> str:
        return "x"


DEFAULTS = {
    "name": "pool",
    "pick": "least_in_flight",
    "cooldown": (30, 120, 300, 600),
    "max_cooldown": 3600,
    "cancel_younger": True,
    "probe_on_recovery": True,
    "min_ready": 1,
    "max_queue": None,
    "failure_penalty": 5,
    "group": None,
    "dimension": None,
    "url": None,
    "on_state_change": None,
}


@pytest.mark.parametrize(("field", "value"), DEFAULTS.items())
def test_the_defaults_are_the_documented_ones(field: str, value: object) -> None:
    """A pool without a word of tuning has the values that the page names."""
    assert getattr(PoolOptions(), field) == value


def test_no_option_is_without_a_documented_default() -> None:
    """A field added later has to be looked at here too."""
    assert {field.name for field in fields(PoolOptions)} == set(DEFAULTS)


@pytest.mark.parametrize("word", PICKS)
def test_each_word_for_a_picker_is_taken(word: str) -> None:
    """The nine built-in pickers are named by their words."""
    assert PoolOptions(pick=word).pick == word


def test_a_picker_of_the_users_is_taken_as_it_is() -> None:
    """Whatever has a method ``pick`` is a picker."""
    mine = Mine()

    assert PoolOptions(pick=mine).pick is mine


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (60, (60,)),
        (0, (0,)),
        (timedelta(minutes=2), (120.0,)),
        ([1, 2.5, timedelta(seconds=9)], (1, 2.5, 9.0)),
        ((0, 0), (0, 0)),
        ((600, 30), (600, 30)),
    ],
)
def test_cooldown_is_a_number_or_a_table(given: Any, stored: tuple[float, ...]) -> None:
    """One duration is a table of one step; a table may fall and hold zeros."""
    assert PoolOptions(cooldown=given).cooldown == stored


@pytest.mark.parametrize("dimension", ["model", "_model2", "größe", plain, partial(plain)])
def test_a_dimension_is_a_name_or_a_function(dimension: Any) -> None:
    """Health is kept apart by a keyword argument, or by what a function makes of the call."""
    assert PoolOptions(dimension=dimension).dimension is dimension


@pytest.mark.parametrize("hook", [plain, waits, Instance()])
def test_the_state_change_hook_may_be_async(hook: Any) -> None:
    """Functions, coroutine functions and callable objects can be told."""
    assert PoolOptions(on_state_change=hook).on_state_change is hook


def test_a_group_is_named_by_a_function_of_the_resource() -> None:
    """The function is stored as it was given."""

    def account(resource: Resource[Any]) -> str | None:
        return resource.group

    assert PoolOptions(group=account).group is account


TABLE = "seconds of at least 0 .or a timedelta., or a list of them that is not empty"
PLAIN = "that is not async"

REFUSED = [
    ("name", "", "a text that is not empty"),
    ("name", 3, "a text that is not empty"),
    ("pick", "fastest", "one of least_in_flight, round_robin, .* or a picker"),
    ("pick", None, "one of least_in_flight"),
    ("pick", Mine, "an object with a method 'pick'"),
    ("pick", ["random"], "one of least_in_flight"),
    ("pick", object(), "one of least_in_flight"),
    ("cooldown", (), TABLE),
    ("cooldown", [], TABLE),
    ("cooldown", None, TABLE),
    ("cooldown", -1, TABLE),
    ("cooldown", True, TABLE),
    ("cooldown", "30", TABLE),
    ("cooldown", math.nan, TABLE),
    ("cooldown", math.inf, TABLE),
    ("cooldown", timedelta(seconds=-1), TABLE),
    ("cooldown", [30, -1], TABLE),
    ("cooldown", [30, "1"], TABLE),
    ("cooldown", [[30]], TABLE),
    ("cooldown", {30, 60}, TABLE),
    ("cooldown", {30: 60}, TABLE),
    ("max_cooldown", 0, "a finite number of seconds .or a timedelta. above 0"),
    ("max_cooldown", math.inf, "a finite number of seconds"),
    ("max_cooldown", None, "a finite number of seconds"),
    ("cancel_younger", 1, "true or false"),
    ("probe_on_recovery", None, "true or false"),
    ("min_ready", -1, "a whole number of at least 0"),
    ("min_ready", True, "a whole number of at least 0"),
    ("min_ready", None, "a whole number of at least 0"),
    ("max_queue", -1, "a whole number of at least 0"),
    ("max_queue", 1.5, "a whole number of at least 0"),
    ("failure_penalty", 0, "a finite number of seconds"),
    ("failure_penalty", math.nan, "a finite number of seconds"),
    ("group", "account", f"a function of the resource {PLAIN}"),
    ("group", waits, PLAIN),
    ("group", Instance(), PLAIN),
    ("group", Mine, PLAIN),
    ("dimension", "", "the name of a keyword argument, or a function of the call"),
    ("dimension", "my model", "the name of a keyword argument"),
    ("dimension", "2nd", "the name of a keyword argument"),
    ("dimension", 3, "the name of a keyword argument"),
    ("dimension", waits, PLAIN),
    ("dimension", Mine, PLAIN),
    ("on_state_change", "hook", "a function, sync or async"),
    ("on_state_change", Mine, "a function, sync or async"),
]


@pytest.mark.parametrize(("field", "value", "allowed"), REFUSED)
def test_an_option_that_is_not_allowed_is_refused(field: str, value: Any, allowed: str) -> None:
    """The error names the pool, the field, what is allowed and the value."""
    with pytest.raises(ConfigError, match=f"^pool: '{field}' must be .*{allowed}.*; got"):
        PoolOptions(**{field: value})


def test_a_table_given_as_a_deque_is_refused_like_any_other_type() -> None:
    """Only lists and tuples are tables: others may be endless, or in no order."""
    with pytest.raises(ConfigError, match=TABLE):
        PoolOptions(cooldown=deque([30.0]))  # type: ignore[arg-type]


def test_options_cannot_be_changed() -> None:
    """What was checked stays as it was checked."""
    with pytest.raises(AttributeError):
        PoolOptions().min_ready = 2  # type: ignore[misc]
