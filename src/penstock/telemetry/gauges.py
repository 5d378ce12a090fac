"""The live state of policies, read when an exporter asks: queues, circuits, resources, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import WeakSet

from opentelemetry.metrics import Observation

from penstock.switch import CREWS, LIVE
from penstock.telemetry import instruments as data
from penstock.telemetry.bounds import Bounds
from penstock.telemetry.faults import report
from penstock.telemetry.names import POLICY, RESOURCE
from penstock.telemetry.settings import settings

__all__ = ["WATCHED", "Gauges"]

# A policy's name, and one of its stages.
Placed = tuple[str, Any]
Reading = Iterator[tuple[dict[str, str], float]]

# Other threads make and drop policies meanwhile. A reading of a few microseconds that is disturbed
# so many times in a row is given up until the next one.
_TRIES = 10

# Other stages have no line; a breaker's snapshot tidies its window and is for its loop's thread.
_QUEUES = ("concurrency", "rate_limit")

# Pools that are used alone.
WATCHED: WeakSet[Any] = WeakSet()


class Gauges:
    """Observable gauges over all policies in use; an exporter reads them in a thread of its own.

    Args:
        meter: Makes them.
        bounds: What is told apart.
    """

    __slots__ = ("_bounds",)

    def __init__(self, meter: Any, bounds: Bounds) -> None:
        self._bounds = bounds
        for metric, sources, read in (
            (data.QUEUED_CALLS, _stages, self._queued),
            (data.CIRCUIT_STATE, _stages, self._circuits),
            (data.RESOURCE_STATE, _all_pools, self._resources),
            (data.RATE_LIMIT_AVAILABLE, _stages, self._available),
            (data.QUEUED_JOBS, _runs, _queued_jobs),
            (data.RUNNING_JOBS, _runs, _running_jobs),
            (data.WORKER_STATE, _runs, _workers),
        ):
            metric.made_by(meter, partial(_observe, sources, read))

    def _queued(self, placed: Placed) -> Reading:
        policy, stage = placed
        if _rotates(stage):
            waiting = stage.pool.machine.queued
        elif getattr(stage, "name", None) in _QUEUES:
            waiting = stage.snapshot().get("waiting")
        else:
            return
        if waiting is not None:
            yield {POLICY: self._bounds.policy(policy), data.STAGE: stage.name}, waiting

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


def _queued_jobs(run: Any) -> Reading:
    yield {data.POOL: run.options.name}, run.dispatcher.queued


def _running_jobs(run: Any) -> Reading:
    yield {data.POOL: run.options.name}, run.dispatcher.running


def _workers(run: Any) -> Reading:
    facts = {data.POOL: run.options.name}
    for state in data.WORKER_STATES:
        yield {**facts, data.STATE_OF_WORKER: state}, 0
    for slot in [*run.slots.values()]:
        yield {**facts, data.STATE_OF_WORKER: slot.state.value}, 1


def _observe(
    sources: Callable[[], list[Any]], read: Callable[[Any], Reading], _: object
) -> list[Observation]:
    # Things of one name have one series, which tells of all of them.
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for source in sources():
        for facts, value in _safely(read, source):
            key = tuple(facts.items())
            sums[key] = sums.get(key, 0) + value
    return [Observation(value, dict(key)) for key, value in sums.items()]


def _safely(read: Callable[[Any], Reading], source: Any) -> list[tuple[dict[str, str], float]]:
    try:
        return list(read(source))
    except Exception as error:  # noqa: BLE001 - the other series go on
        report("gauge", error)
        return []


def _stages() -> list[Placed]:
    # A stage may stand in several policies, and several may have one name.
    placed = {
        (pipeline.policy, id(stage)): (pipeline.policy, stage)
        for pipeline in _listed(LIVE)
        for stage in pipeline.stages
    }
    return list(placed.values())


def _all_pools() -> list[Any]:
    rotated = [stage.pool for _, stage in _stages() if _rotates(stage)]
    return list({id(pool): pool for pool in [*rotated, *_listed(WATCHED)]}.values())


def _runs() -> list[Any]:
    # One that is over may be followed by another of its name.
    return [run for run in _listed(CREWS) if not run.ending.is_over]


def _rotates(stage: Any) -> bool:
    return hasattr(stage, "health_for")


def _listed(live: WeakSet[Any]) -> list[Any]:
    for _ in range(_TRIES):
        try:
            return list(live)
        except RuntimeError:
            continue
    return []


def _label_of(breaker: Any) -> str | None:
    theirs = getattr(breaker, "breaker", None)
    label: str | None = breaker.options.label if theirs is None else theirs.name
    return label
