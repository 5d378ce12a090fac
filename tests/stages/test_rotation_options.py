from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from penstock.errors import ConfigError
from penstock.pools.options import PoolOptions
from penstock.pools.resource import Resource
from penstock.stages.rotation import RotationOptions

SECRET = "the-secret-itself-4711"


class SomePool:
    """What a stage takes for a pool."""

    def lease_nowait(self, call: object) -> None: ...

    def snapshot(self) -> dict[str, Any]:
        return {}


class Half:
    """Leases, but is no pool."""

    def lease_nowait(self, call: object) -> None: ...


def test_resources_are_required() -> None:
    """There is nothing to rotate over by default."""
    with pytest.raises(TypeError, match="resources"):
        RotationOptions()  # type: ignore[call-arg]


def test_resources_are_stored_as_resources() -> None:
    """Values become named resources, so that no repr of the options shows one."""
    options = RotationOptions(resources=[SECRET, Resource(SECRET, "b")])

    assert [r.id for r in options.resources] == ["1", "b"]
    assert SECRET not in repr(options)


def test_what_is_left_out_has_the_pools_defaults() -> None:
    """The stage adds to the pool's options and changes none of their defaults."""
    options = RotationOptions(resources=["x"])

    assert (options.max_wait, options.inject) == (None, "first")
    for each in fields(PoolOptions):
        assert getattr(options, each.name) == each.default


def test_pool_options_go_with_resources() -> None:
    """Where the resources are given, the pool is built with these options."""
    options = RotationOptions(
        resources=["x"], pick="random", cooldown=5, max_wait=timedelta(minutes=1)
    )

    assert (options.pick, options.cooldown, options.max_wait) == ("random", (5,), 60.0)


def test_a_pool_is_stored_as_it_is() -> None:
    """A pool brings its own options; the stage's own ones go with it."""
    pool = SomePool()

    options = RotationOptions(resources=pool, max_wait=0, inject="api_key")

    assert options.resources is pool


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pick", "random"),
        ("cooldown", 5),
        ("max_cooldown", 60),
        ("cancel_younger", False),
        ("probe_on_recovery", False),
        ("min_ready", 0),
        ("max_queue", 10),
        ("failure_penalty", 1),
        ("group", len),
        ("dimension", "model"),
        ("on_state_change", print),
        ("name", "keys"),
    ],
)
def test_pool_options_beside_a_pool_are_refused(field: str, value: Any) -> None:
    """They would be ignored, quietly."""
    with pytest.raises(ConfigError, match=f"'{field}' must be left out: the pool brings its own"):
        RotationOptions(resources=SomePool(), **{field: value})


def test_defaults_written_out_beside_a_pool_are_no_mistake() -> None:
    """A copy of the options with another pool passes all fields."""
    first = RotationOptions(resources=SomePool(), max_wait=3)
    other = SomePool()

    assert replace(first, resources=other).resources is other


@pytest.mark.parametrize("given", [SomePool, Half(), None, SECRET, [], {}, Resource(SECRET, "a")])
def test_what_is_neither_pool_nor_resources_is_refused(given: object) -> None:
    """A class of a pool, a half of one, nothing, one text: refused, and no value is shown."""
    with pytest.raises(ConfigError, match="'resources' must") as caught:
        RotationOptions(resources=given)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("word", ["first", "api_key", "schlüssel", None])
def test_the_resource_is_injected_first_by_keyword_or_not_at_all(word: str | None) -> None:
    """Any name that can be a parameter is taken."""
    assert RotationOptions(resources=["x"], inject=word).inject == word


@pytest.mark.parametrize("word", ["", "api key", "class", "1st", 1, True, ["first"]])
def test_what_cannot_be_a_parameter_is_refused(word: Any) -> None:
    """No operation could take it."""
    allowed = "'inject' must be 'first', None, or the name of a keyword argument"
    with pytest.raises(ConfigError, match=f"rotation: {allowed}"):
        RotationOptions(resources=["x"], inject=word)


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, True, "1"])
def test_max_wait_is_seconds_from_zero(seconds: Any) -> None:
    """As at every other stage that waits."""
    with pytest.raises(ConfigError, match="rotation: 'max_wait' must be a finite number of"):
        RotationOptions(resources=["x"], max_wait=seconds)
