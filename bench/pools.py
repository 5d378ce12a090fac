"""Pools to measure, ours and the peer's, and what runs on them."""

from __future__ import annotations

import time
from importlib.util import find_spec
from itertools import cycle
from typing import Any

from bench.harness import Operation
from penstock import Pool, current_lease

__all__ = [
    "HAS_ROTAPOOL",
    "PEER",
    "among",
    "ids",
    "reported",
    "reporting",
    "rotapool_of",
    "served",
    "with_keys",
]

PEER = "rotapool"
HAS_ROTAPOOL = find_spec(PEER) is not None

# So large that nobody uses it up while it is measured.
_QUOTA = 1e9

_KEYS = 1000


async def served(_resource: object) -> int:
    """Be the operation on a resource: the shortest there is."""
    return 1


async def reporting(_resource: object) -> int:
    """Be an operation that also says what its answer's headers say is left."""
    current_lease().report(remaining=_QUOTA, resets_in=60.0)
    return 1


def ids(count: int) -> list[str]:
    """Return so many resources."""
    return [f"key-{number}" for number in range(count)]


def rotapool_of(count: int, *, cooling: int = 0) -> Any:
    """Return the peer's pool of so many resources, with the options that it has by default.

    Args:
        count: How many.
        cooling: How many of them rest for the next hour.
    """
    import rotapool  # noqa: PLC0415 - optional

    resources = [rotapool.Resource(name, name) for name in ids(count)]
    for resource in resources[:cooling]:
        resource.status, resource.cooldown_until = "cooling_down", time.monotonic() + 3600
    return rotapool.Pool(resources)


def with_keys(pool: Pool[str]) -> Operation:
    """Return an operation that calls for another of a thousand keys each time."""
    views = cycle([pool.using(key=f"user-{number}") for number in range(_KEYS)])
    return lambda: next(views).run(served)


async def reported(pool: Pool[str], count: int) -> None:
    """Let every resource say once how much is left of its quota."""
    for _ in range(count):
        async with pool.lease() as lease:
            lease.report(remaining=_QUOTA)


async def among(count: int, pick: str) -> Pool[str]:
    """Return a pool in which every resource has been used, and its quota is known."""
    pool = Pool(ids(count), pick=pick)
    await reported(pool, count)
    return pool
