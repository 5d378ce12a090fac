"""What a pool of workers tells about itself: plain data, never a value, an argument or a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock import clock
from penstock.workers.slot import RECENT, Slot, SlotState

if TYPE_CHECKING:
    from penstock.workers.run import Run

__all__ = ["WorkerPoolStats", "WorkerStats", "snapshot_of", "stats_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """Gauges and counters of one worker, over all its restarts.

    A job that is tried three times is three calls.

    Attributes:
        id: The worker's id.
        index: Its place, from 0.
        state: ``starting``, ``up``, ``restarting``, ``parked``, ``stopping`` or ``stopped``.
        in_flight: Calls that it serves.
        lingering: Calls that nobody waits for any more, whose thread goes on.
        done: Calls that ended well.
        failed: Calls that did not.
        cancelled: Calls that were cancelled, or cut off by a time limit.
        retried: Calls beyond the first one of a job.
        restarts: Times it was started anew.
        latency: Seconds that a call took, on average; None before the first has ended.
        recent_latency: The same of late: an average in which each call counts for nine tenths of
            the one after it.
    """

    id: str
    index: int
    state: str
    in_flight: int
    lingering: int
    done: int
    failed: int
    cancelled: int
    retried: int
    restarts: int
    latency: float | None
    recent_latency: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPoolStats:
    """Gauges and counters of a pool of workers.

    The counters go on when a worker leaves, and when the pool is stopped and started again. Every
    job that was taken is ``queued`` or ``running``, or counts once as ``done``, ``failed`` or
    ``cancelled``.

    Attributes:
        size: Workers that are always there.
        max_size: The most there may be.
        by_state: Workers by ``starting``, ``up``, ``restarting``, ``parked``, ``stopping`` and
            ``stopped``.
        queued: Jobs that have not begun.
        running: Jobs, and calls past the line, that have begun and not ended.
        oldest_waiting: Seconds since the job was handed in that has been in line for longest; 0.0
            where there is none.
        done: Jobs and calls that ended well.
        failed: Those that were given up, for whatever reason.
        cancelled: Those that were cancelled.
        dropped: Those that were given up by reason: ``failed``, ``skipped``, ``stopped`` and
            ``rejected``.
        run_again: Times that a job was put in line again, after a pause for failed jobs.
        retried: Calls of workers beyond the first one of a job.
        restarts: Times that workers were started anew.
        latency: Seconds that a call took, on average; None before the first has ended.
        workers: The same for each worker that is there.
    """

    size: int
    max_size: int
    by_state: dict[str, int]
    queued: int
    running: int
    oldest_waiting: float
    done: int
    failed: int
    cancelled: int
    dropped: dict[str, int]
    run_again: int
    retried: int
    restarts: int
    latency: float | None
    workers: tuple[WorkerStats, ...]


def stats_of(run: Run) -> WorkerPoolStats:
    """Return a pool's gauges and counters."""
    tally, dispatcher, slots = run.tally, run.dispatcher, [*run.slots.values()]
    by_state = {state.value: 0 for state in SlotState}
    for slot in slots:
        by_state[slot.state.value] += 1
    calls = tally.calls + sum(slot.calls for slot in slots)
    busy = tally.busy_seconds + sum(slot.busy_seconds for slot in slots)
    return WorkerPoolStats(
        size=run.staffing.size,
        max_size=run.staffing.most,
        by_state=by_state,
        queued=dispatcher.queued,
        running=dispatcher.running,
        oldest_waiting=_oldest_waiting(run),
        done=tally.done + dispatcher.done,
        failed=sum(tally.dropped.values()),
        cancelled=tally.cancelled,
        dropped=dict(tally.dropped),
        run_again=tally.again,
        retried=tally.retried + sum(slot.retried for slot in slots),
        restarts=tally.restarts + sum(max(slot.restarted, 0) for slot in slots),
        latency=busy / calls if calls else None,
        workers=tuple(_stats_of(run, slot) for slot in slots),
    )


def snapshot_of(run: Run) -> dict[str, Any]:
    """Return a pool's live state as a plain dict that JSON can hold."""
    stats, standings = stats_of(run), run.workers.snapshot()["resources"]
    return {
        "pool": run.options.name,
        "mode": run.options.mode,
        "state": _state_of(run),
        "paused_for": run.pauses(),
        "size": stats.size,
        "max_size": stats.max_size,
        "queue": run.options.queue,
        "queued": stats.queued,
        "running": stats.running,
        "oldest_waiting": stats.oldest_waiting,
        "done": stats.done,
        "failed": stats.failed,
        "cancelled": stats.cancelled,
        "dropped": stats.dropped,
        "restarts": stats.restarts,
        "escalation": run.failing.snapshot(),
        "workers": {each.id: _shown(each, standings.get(each.id)) for each in stats.workers},
    }


def _state_of(run: Run) -> str:
    if run.ending.is_over:
        return "stopped"
    if run.stopped_for is not None:
        return "stopping"
    return "paused" if run.dispatcher.is_paused else "running"


def _shown(worker: WorkerStats, standing: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "state": worker.state,
        # One that leaves stands nowhere any more.
        "standing": None if standing is None else standing["standing"],
        "cooling_for": 0.0 if standing is None else standing["cooling_for"],
        "in_flight": worker.in_flight,
        "lingering": worker.lingering,
        "done": worker.done,
        "failed": worker.failed,
        "restarts": worker.restarts,
    }


def _stats_of(run: Run, slot: Slot) -> WorkerStats:
    calls = slot.calls
    member = run.workers.machine.members.get(slot.id)
    # The average began at 0, which weighs less and less.
    weight = 1.0 - (1.0 - RECENT) ** calls
    return WorkerStats(
        id=slot.id,
        index=slot.index,
        state=slot.state.value,
        in_flight=slot.in_flight,
        lingering=0 if member is None else member.outlived,
        done=slot.done,
        failed=slot.failed,
        cancelled=slot.cancelled,
        retried=slot.retried,
        restarts=max(slot.restarted, 0),
        latency=slot.busy_seconds / calls if calls else None,
        recent_latency=slot.latency / weight if calls else None,
    )


def _oldest_waiting(run: Run) -> float:
    since = [waiter.cost.submitted_at for waiter in run.dispatcher.line.heads()]
    return clock.now() - min(since) if since else 0.0
