"""What can be set on a pool of workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from penstock.binding import observers_of
from penstock.events import Observer
from penstock.options import Count, Flag, Name, Number, Options, Rule, Seconds, SecondsFromZero
from penstock.policy import Policy
from penstock.pools.options import DEFAULT_COOLDOWN, CooldownRule, HookRule, PickRule

__all__ = ["DEFAULT_RESTART_DELAY", "Escalation", "WorkerPoolOptions"]

# One crash is bad luck and costs no time; what crashes again is given longer and longer, so that a
# service that is down is not asked ten times a second by every worker.
DEFAULT_RESTART_DELAY = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class _PolicyRule(Rule):
    allowed = "a Policy"

    def read(self, value: Any) -> Any:
        if not isinstance(value, Policy):
            raise ValueError
        return value


class _EscalationRule(Rule):
    allowed = "an Escalation"

    def read(self, value: Any) -> Any:
        if not isinstance(value, Escalation):
            raise ValueError
        return value


class _RayRule(Rule):
    allowed = "a dict of actor options by name"

    def read(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation(Options):
    """What a pool does about jobs that fail for good, one after another.

    A job that has failed after all attempts of the policy is one failure. Failures are counted over
    all workers; when there are too many the pool pauses, longer each time, and in the end it stops.

    Attributes:
        failures: Failed jobs that pause the pool, from 1.
        window: Seconds after which a failed job is forgotten.
        pause: Seconds of the first pause, above 0.
        pause_growth: What each pause is longer by than the one before, from 1.
        max_pause: Most seconds of a pause.
        trips: Pauses after which the pool stops, from 1: the last one is not a pause any more. One
            job is run again as often at most.
        trip_window: Seconds after which a pause is forgotten.
    """

    stage: ClassVar[str] = "escalation"

    # Three in a row are rarely three bad jobs.
    failures: Count = 3
    window: Seconds = 300.0
    pause: Seconds = 10.0
    pause_growth: Annotated[float, Number(minimum=1)] = 2.0
    max_pause: Seconds = 600.0
    trips: Count = 3
    trip_window: Seconds = 3600.0

    def __post_init__(self) -> None:
        """Check every field, and those that belong together."""
        Options.__post_init__(self)
        if self.max_pause < self.pause:
            raise self.refuse("max_pause", self.max_pause, f"at least 'pause' ({self.pause:g} s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPoolOptions(Options):
    """Options of a pool of workers.

    Attributes:
        name: The pool's name in messages, events, telemetry and snapshots.
        size: Workers that are always there, from 1.
        max_size: Most workers: more than ``size`` are started while jobs wait, and stopped when
            they have had nothing to do for ``idle_timeout``. None for no more than ``size``.
        idle_timeout: Seconds after which an extra worker without work is stopped.
        mode: Where the workers live: ``asyncio``, ``thread``, ``process`` or ``ray``.
        per_worker: Calls that a worker is given at a time, from 1. Async methods run side by side,
            sync ones one after the other.
        policy: What each job goes through before it is given to a worker; it may not rotate.
        policy_per: ``pool``: one rate limit, one breaker, one cap for all workers. ``worker``: each
            worker has a copy of its own, and a job goes through it when it has its worker.
        queue: Most jobs that wait, from 1; who submits more waits. None for no bound.
        pick: Which worker serves next; see ``PoolOptions``. ``sticky`` keeps jobs of one ``key``
            with one worker.
        cooldown: How long a worker rests after ``CooldownResource`` or a rate limit, in steps.
        start_interval: Seconds between the starts of two workers, from 0.
        start_timeout: Seconds that a worker's ``start`` may take; waiting for a machine of a Ray
            cluster that has room does not count.
        stop_timeout: Seconds that a worker's ``stop`` may take; then it is killed.
        restart_every: Jobs after which a worker is started anew, from 1; None for never.
        restart_delay: Seconds before the first, second, ... restart in a row of a worker that died
            or could not start; the last one goes on.
        max_restarts: Restarts within ``restart_window`` after which a worker is parked, from 1.
        restart_window: Seconds in which restarts are counted.
        health_interval: Seconds between two calls of a worker's ``healthy``, where it has one.
        health_timeout: Seconds that ``healthy`` may take.
        on_cancel: What becomes of a worker process whose sync call is cancelled or times out:
            ``kill`` it and start another, or let it ``finish``. Threads always finish.
        start_method: How processes begin: ``forkserver`` or ``spawn``.
        ray_options: Options of the actors (``num_cpus``, ``resources``, ``runtime_env``, ...).
        ray_address: The cluster to connect to where the program is not connected; None takes what
            ``RAY_ADDRESS`` names, else the one that this machine belongs to, else starts one here.
            It is left again after the pool.
        escalation: What to do about jobs that fail one after another; None for nothing.
        on_drop: Called with a ``Dropped`` for every job that is given up, and why; may be async.
        observers: Callables that take every ``Event`` of the pool, and of its jobs' calls where the
            pool has no policy: a policy has observers of its own.
        telemetry: Whether jobs are traced and measured while an OpenTelemetry SDK is set.
    """

    stage: ClassVar[str] = "workers"

    name: Name = "workers"
    # What taskforeman starts, and what a laptop has cores for.
    size: Count = 4
    max_size: Count | None = None
    idle_timeout: Seconds = 60.0
    mode: Literal["asyncio", "thread", "process", "ray"] = "asyncio"
    # Workers are stateful, and most are written for one call at a time.
    per_worker: Count = 1
    policy: Annotated[Policy, _PolicyRule()] | None = None
    policy_per: Literal["pool", "worker"] = "pool"
    # Half a megabyte of ours. What produces faster than the workers take is slowed down in time.
    queue: Count | None = 1000
    pick: Annotated[str | object, PickRule()] = "least_in_flight"
    cooldown: Annotated[tuple[float, ...], CooldownRule()] = DEFAULT_COOLDOWN
    start_interval: SecondsFromZero = 0.0
    # Models of many gigabytes load in a minute or two.
    start_timeout: Seconds = 300.0
    stop_timeout: Seconds = 10.0
    restart_every: Count | None = None
    restart_delay: Annotated[tuple[float, ...], CooldownRule()] = DEFAULT_RESTART_DELAY
    # Erlang's supervisors give up after 1 in 5 s, which is meant for processes that start in
    # microseconds.
    max_restarts: Count = 5
    restart_window: Seconds = 60.0
    health_interval: Seconds = 30.0
    health_timeout: Seconds = 10.0
    on_cancel: Literal["kill", "finish"] = "kill"
    start_method: Literal["forkserver", "spawn"] = "forkserver"
    ray_options: Annotated[Mapping[str, Any], _RayRule()] | None = None
    ray_address: Name | None = None
    escalation: Annotated[Escalation, _EscalationRule()] | None = None
    on_drop: Annotated[Callable[..., object], HookRule()] | None = None
    observers: tuple[Observer, ...] = ()
    telemetry: Flag = True

    def __post_init__(self) -> None:
        """Check every field, and those that belong together."""
        Options.__post_init__(self)
        if self.max_size is not None and self.max_size < self.size:
            raise self.refuse("max_size", self.max_size, f"at least 'size' ({self.size}), or None")
        object.__setattr__(self, "observers", observers_of(self.observers))

    @property
    def most(self) -> int:
        """The most workers there may be."""
        return self.max_size or self.size
