"""Showing a pool that no policy rotates over."""

from __future__ import annotations

from typing import Any

from penstock.errors import ConfigError
from penstock.pools.administration import Administered
from penstock.switch import watch_pool
from penstock.telemetry.gauges import WATCHED
from penstock.telemetry.plan import current_plan, is_on

__all__ = ["watch"]


def watch(pool: Any) -> None:
    """Show the resources of a pool that is used alone, as those of a policy's pool are shown.

    Best called after the providers are set: under one set later it is shown from its first change
    of state on. Its changes are log events under the pool's name. It is not kept alive.

    Args:
        pool: A ``Pool``.

    Raises:
        ConfigError: It is no pool.
    """
    if not isinstance(pool, Administered):
        # Not as it reads: it may be a list of keys.
        raise ConfigError(f"telemetry.watch: 'pool' must be a Pool; got {type(pool).__name__}")
    WATCHED.add(pool)
    watch_pool(pool, pool.options.name)
    if is_on():
        current_plan()
