"""What a pool of workers tells about itself to whoever asks."""

from __future__ import annotations

from typing import Any

from penstock.health import Health
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.run import Run
from penstock.workers.slot import SlotState
from penstock.workers.stats import WorkerPoolStats, snapshot_of, stats_of
from penstock.workers.tally import Tally

__all__ = ["Telling"]


class Telling:
    """The stats, the live state and the health of a pool of workers.

    From any thread: another one than the pool's waits for the next step of its loop.
    """

    options: WorkerPoolOptions
    _run: Run | None

    def stats(self) -> WorkerPoolStats:
        """Return gauges, and counters that never go back; all 0 before the pool is started."""
        run = self._run
        if run is None:
            return _stats_of_nothing(self.options)
        return run.workers.read(lambda: stats_of(run))

    def snapshot(self) -> dict[str, Any]:
        """Return the live state as a plain dict that JSON can hold.

        Never a value, an argument, a result or the text of an error.
        """
        run = self._run
        if run is None:
            return {"pool": self.options.name, "mode": self.options.mode, "state": "not started"}
        return run.workers.read(lambda: snapshot_of(run))

    def health(self) -> Health:
        """Return how many workers are ready, and when the first one will be."""
        run = self._run
        if run is None:
            return Health(0, self.options.size, None, "it has not been started")
        if run.stopped_for is not None:
            return Health(0, len(run.slots), None, run.stopped_for)
        return run.workers.health()


def _stats_of_nothing(options: WorkerPoolOptions) -> WorkerPoolStats:
    tally = Tally()
    return WorkerPoolStats(
        size=options.size,
        max_size=options.most,
        by_state={state.value: 0 for state in SlotState},
        queued=0,
        running=0,
        oldest_waiting=0.0,
        done=tally.done,
        failed=0,
        cancelled=tally.cancelled,
        dropped=tally.dropped,
        run_again=tally.again,
        retried=tally.retried,
        restarts=tally.restarts,
        latency=None,
        workers=(),
    )
