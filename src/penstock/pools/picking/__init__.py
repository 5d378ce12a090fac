"""Picking: which of the ready resources serves next."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from penstock.errors import ConfigError
from penstock.matching import is_async_callable
from penstock.pools.picking.base import Picker
from penstock.pools.picking.drawn import Random
from penstock.pools.picking.least_in_flight import LeastInFlight
from penstock.pools.picking.most_remaining import MostRemaining
from penstock.pools.picking.own import Complaint, Own
from penstock.pools.picking.p2c_ewma import P2cEwma
from penstock.pools.picking.primary_backup import PrimaryBackup
from penstock.pools.picking.round_robin import RoundRobin
from penstock.pools.picking.shares import LeastTotal, Weighted
from penstock.pools.picking.sticky import Sticky

__all__ = ["PICKERS", "Chance", "Picker", "picker_of"]

Chance = Callable[[], float]

# Comparing words takes time in the square of their length.
_MOST_COMPARED = 60


def _without_chance(picker: Callable[[], Picker]) -> Callable[[Chance], Picker]:
    return lambda _: picker()


PICKERS: Mapping[str, Callable[[Chance], Picker]] = MappingProxyType(
    {
        "least_in_flight": _without_chance(LeastInFlight),
        "round_robin": _without_chance(RoundRobin),
        "least_total": _without_chance(LeastTotal),
        "random": Random,
        "primary_backup": _without_chance(PrimaryBackup),
        "weighted": _without_chance(Weighted),
        "sticky": _without_chance(Sticky),
        "p2c_ewma": P2cEwma,
        "most_remaining": _without_chance(MostRemaining),
    }
)
"""What makes each picker that penstock brings, by its word."""


def picker_of(how: object, chance: Chance) -> Callable[[], Picker]:
    """Return what makes a pool's pickers, one for each of its lanes.

    Args:
        how: A word, or an object with ``pick(ready, key)``, which all lanes then share: ``ready``
            is a sequence of candidates to read, and it returns one of them.
        chance: Returns the next random number, from 0 up to but not including 1.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(how, str) and how in PICKERS:
        return partial(PICKERS[how], chance)
    pick = getattr(how, "pick", None)
    if not callable(pick) or isinstance(how, type) or is_async_callable(pick):
        raise _refuse(how)
    return partial(Own, how, Complaint(type(how).__qualname__))


def _refuse(how: object) -> ConfigError:
    near = (
        difflib.get_close_matches(how[:_MOST_COMPARED].lower(), PICKERS, 1)
        if isinstance(how, str)
        else []
    )
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigError(
        f"pool: 'pick' must be one of {', '.join(PICKERS)}, or an object with a method "
        f"pick(ready, key) that is not async; got {how!r}{hint}"
    )
