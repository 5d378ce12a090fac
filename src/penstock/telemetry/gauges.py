"""The live state of policies, read when an exporter asks: queues, circuits, resources, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from penstock.options import Options
from penstock.pools.delivery import Delivery
from penstock.switch import LIVE
from penstock.telemetry import instruments as data
from penstock.telemetry.bounds import Bounds
from penstock.telemetry.faults import report
from penstock.telemetry.names import POLICY, RESOURCE
from penstock.telemetry.settings import settings

__all__ = ["Gauges", "watch"]

# A policy's name, and one of its stages.
Placed = tuple[str, Any]
Reading = Iterator[tuple[dict[str, str], float]]

# Other threads make and drop policies meanwhile. A reading of a few microseconds that is disturbed
# so many times in a row is given up until the next one.
_TRIES = 10

_pools: WeakSet[Any] = WeakSet()


def watch(pool: Any) -> None:
    """Show the resources of a pool that is used alone, as those of a policy's pool are shown.

    The pool is not kept alive by it.

    Args:
        pool: A ``Pool``.

    Raises:
        ConfigError: It is no pool.
    """
    if not isinstance(pool, Delivery):
        raise _Watched.refuse("pool", pool, "a Pool")
    _pools.add(pool)


class _Watched(Options):
    stage = "telemetry.watch"


class Gauges:
    """Observable gauges over all policies in use; an exporter reads them in a thread of its own.

    Args:
        meter: Makes them.
        bounds: What is told apart.
    """

    __slots__ = ("_bounds",)

    def __init__(self, meter: Any, bounds: Bounds) -> None:
        self._bounds = bounds
        for metric, read in (
            (data.QUEUED_CALLS, self._queued),
            (data.CIRCUIT_STATE, self._circuits),
            (data.RESOURCE_STATE, self._resources),
            (data.RATE_LIMIT_AVAILABLE, self._available),
        ):
            metric.made_by(meter, self._observing(read))

    def _observing(self, read: Callable[[Any], Reading]) -> Callable[[Any], list[Any]]:
        # Imported by those who have set a provider.
        from opentelemetry.metrics import Observation  # noqa: PLC0415

        def observe(_: object) -> list[Any]:
            sums: dict[tuple[tuple[str, str], ...], float] = {}
            # Of things of one name there is one series, which tells of all of them.
            for each in self._sources(read):
                for facts, value in _safely(read, each):
                    key = tuple(facts.items())
                    sums[key] = sums.get(key, 0) + value
            return [Observation(value, dict(key)) for key, value in sums.items()]

        return observe

    def _sources(self, read: Callable[[Any], Reading]) -> list[Any]:
        placed = _stages()
        if read != self._resources:
            return placed
        pools = [stage.pool for _, stage in placed if hasattr(stage, "health_for")]
        return list({id(pool): pool for pool in [*pools, *_listed(_pools)]}.values())

    def _queued(self, placed: Placed) -> Reading:
        policy, stage = placed
        name = getattr(stage, "name", None)
        # A breaker has no line, and the snapshot of its window is for the thread of its loop.
        if name == "breaker" or not hasattr(stage, "snapshot"):
            return
        waiting = stage.snapshot().get("waiting")
        if waiting is not None:
            yield {POLICY: self._bounds.policy(policy), data.STAGE: str(name)}, waiting

    def _circuits(self, placed: Placed) -> Reading:
        policy, stage = placed
        if getattr(stage, "name", None) != "breaker":
            return
        now = stage.state
        facts = {POLICY: self._bounds.policy(policy), data.CIRCUIT: _label_of(stage) or policy}
        for state in data.CIRCUIT_STATES:
            yield {**facts, data.STATE_OF_CIRCUIT: state}, int(state == now)

    def _resources(self, pool: Any) -> Reading:
        shown = pool.snapshot()
        facts = {data.POOL: shown["pool"]}
        apart = settings().resource_ids
        if not apart:
            for state in data.RESOURCE_STATES:
                yield {**facts, data.STATE_OF_RESOURCE: state}, 0
        for id_, resource in shown["resources"].items():
            if not apart:
                yield {**facts, data.STATE_OF_RESOURCE: resource["standing"]}, 1
                continue
            for state in data.RESOURCE_STATES:
                one = {**facts, RESOURCE: id_, data.STATE_OF_RESOURCE: state}
                yield one, int(state == resource["standing"])

    def _available(self, placed: Placed) -> Reading:
        policy, stage = placed
        if getattr(stage, "name", None) != "rate_limit":
            return
        shown = stage.snapshot()
        # An AsyncLimiter of the user's does not tell.
        available = shown.get("available", ())
        rates = getattr(getattr(stage, "options", None), "rate", ())
        for rate, units in zip(rates, available, strict=True):
            yield {POLICY: self._bounds.policy(policy), data.LIMIT: rate.name or str(rate)}, units


def _stages() -> list[Placed]:
    placed = {
        (pipeline.policy, id(stage)): (pipeline.policy, stage)
        for pipeline in _listed(LIVE)
        for stage in pipeline.stages
    }
    return list(placed.values())


def _listed(live: WeakSet[Any]) -> list[Any]:
    for _ in range(_TRIES):
        try:
            return list(live)
        except RuntimeError:
            continue
    return []


def _safely(read: Callable[[Any], Reading], each: Any) -> list[tuple[dict[str, str], float]]:
    try:
        return list(read(each))
    except Exception as error:  # noqa: BLE001 - the other gauges go on
        report("gauges", error)
        return []


def _label_of(breaker: Any) -> str | None:
    theirs = getattr(breaker, "breaker", None)
    label: str | None = breaker.options.label if theirs is None else theirs.name
    return label
