"""What a user gives as the resources of a pool: one reading for lists, dicts and mixes of them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import count
from typing import Any, cast

from penstock.errors import ConfigError
from penstock.options import is_mapping
from penstock.pools.resource import Resource, harmless, is_resource

__all__ = ["MOST_RESOURCES", "resource_of", "resources_of"]

# Ten times the largest pool that is measured. What goes on beyond is a generator without an end.
MOST_RESOURCES = 100_000

_ALLOWED = "a list of values or Resources, or a dict of them by id"


def resources_of(given: object) -> tuple[Resource[Any], ...]:
    """Return the resources of a pool, each with its own id, in the order given.

    Args:
        given: Values, Resources or a mix of them, or a dict id -> value or Resource. What has no id
            is named by its place, from 1, or by the next number that nobody has.

    Raises:
        ConfigError: It is empty or endless, has an id twice, or is nothing that can be read in
            order. No message shows a value.
    """
    found = tuple(_by_id(given) if is_mapping(given) else _in_order(given))
    if not found:
        raise ConfigError("pool: 'resources' must not be empty")
    _name(found)
    return found


def _by_id(given: Any) -> Iterator[Resource[Any]]:
    for key, value in given.items():
        which = f"the one of id {key!r} of 'resources'"
        resource = resource_of(value, which) if isinstance(key, str) else None
        if resource is None or not key.strip():
            raise ConfigError(f"pool: ids must be texts that are not empty; got {harmless(key)}")
        if resource.id not in {None, key}:
            msg = f"pool: resource {resource.id!r} is listed under another id: {key!r}"
            raise ConfigError(msg)
        resource.name(key)
        yield resource


def _in_order(given: object) -> Iterator[Resource[Any]]:
    if isinstance(given, Resource | str | bytes | bytearray):
        raise _refused(cast("object", given), "put it in a list")
    if isinstance(given, AsyncIterable):
        raise _refused(cast("object", given), "read it before the pool is built")
    if isinstance(given, AbstractSet):
        why = "it has no order, and resources are named by place"
        raise _refused(cast("object", given), why)
    if not isinstance(given, Iterable):
        raise _refused(given)
    items = cast("Iterable[object]", given)
    for place, value in enumerate(items, 1):
        if place > MOST_RESOURCES:
            raise ConfigError(f"pool: 'resources' must be {MOST_RESOURCES} at most; got more")
        yield resource_of(value, f"number {place} of 'resources'")


def resource_of(value: object, which: str) -> Resource[Any]:
    """Return a value as a resource, unless it is what a variable that is not set leaves behind.

    Args:
        value: Any value, or a resource.
        which: Names it in the error.

    Raises:
        ConfigError: It is None or an empty text.
    """
    if is_resource(value):
        return value
    # What a variable that is not set leaves behind: os.getenv("KEY"), or "".split(",").
    if value is None or (isinstance(value, str | bytes) and not value.strip()):
        what = "None" if value is None else "an empty text"
        advice = "is a variable not set? Resource(...) takes any value"
        raise ConfigError(f"pool: {which} is {what}; {advice}")
    return Resource(value)


def _name(resources: tuple[Resource[Any], ...]) -> None:
    taken: set[str] = set()
    unnamed: dict[Resource[Any], int] = {}
    for place, resource in enumerate(resources, 1):
        if resource.id in taken:
            raise ConfigError(f"pool: two resources have the id {resource.id!r}")
        if resource in unnamed:
            raise ConfigError(f"pool: number {place} of 'resources' is number {unnamed[resource]}")
        if resource.id is None:
            unnamed[resource] = place
        else:
            taken.add(resource.id)
    last = 0
    for resource, place in unnamed.items():
        last = next(n for n in count(max(place, last + 1)) if str(n) not in taken)
        resource.name(str(last))


def _refused(given: object, advice: str = "") -> ConfigError:
    what = f"pool: 'resources' must be {_ALLOWED}; got {harmless(given)}"
    return ConfigError(f"{what}; {advice}" if advice else what)
