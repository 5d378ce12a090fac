"""How a call is timed: CPU time, alternating order, medians, the bare call subtracted."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

__all__ = ["BARE", "EFFORTS", "Effort", "Operation", "Timings", "compare", "run_loop", "succeed"]

Operation = Callable[[], Awaitable[Any]]

BARE = "bare await fn()"

# A loop that never gets a turn never clears away cancelled timers, which would make everything that
# arms one look slower than it is in a program.
_CALLS_PER_LOOP_STEP = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much to measure.

    Attributes:
        rounds: Times that everybody is measured.
        calls: Calls of each in each round.
        tasks: Tasks queued at once on a limiter.
        real_rounds: Times that the limiter is measured in real time; 0 leaves it to virtual time.
        starts: Most starts of one admitted rate.
        processes: Rounds of interpreters started for the import time.
        resources: Most resources of a pool.
    """

    rounds: int
    calls: int
    tasks: int
    real_rounds: int
    starts: int
    processes: int
    resources: int


EFFORTS = {
    "full": Effort(
        rounds=21,
        calls=4_000,
        tasks=20_000,
        real_rounds=3,
        starts=20_000,
        processes=11,
        resources=10_000,
    ),
    "quick": Effort(
        rounds=9,
        calls=600,
        tasks=5_000,
        real_rounds=0,
        starts=2_000,
        processes=3,
        resources=10_000,
    ),
    "smoke": Effort(
        rounds=1, calls=50, tasks=100, real_rounds=0, starts=50, processes=1, resources=100
    ),
}


async def succeed() -> int:
    """Be the operation: the shortest there is."""
    return 1


@dataclass(frozen=True, slots=True)
class Timings:
    """Microseconds of CPU time per call, of everybody in every round."""

    rounds: Mapping[str, list[float]]

    def total(self, name: str) -> float:
        """Return the median over the rounds, the call itself included."""
        return median(self.rounds[name])

    def added(self, name: str) -> float:
        """Return what a call costs above the bare one; the median over the rounds."""
        return median(self._added(name))

    def ratio(self, name: str, to: str) -> float:
        """Return how many times ``to`` it adds: the median of the ratios of the rounds."""
        pairs = zip(self._added(name), self._added(to), strict=True)
        return median(ours / theirs for ours, theirs in pairs)

    def spread(self, name: str) -> float:
        """Return the distance between the quartiles of ``added``."""
        added = self._added(name)
        if len(added) < 3:
            return 0.0
        low, _, high = quantiles(added, n=4)
        return high - low

    def cheapest(self, names: tuple[str, ...]) -> str | None:
        """Return which of these adds least; those that were not measured are left out."""
        return min(filter(self.rounds.__contains__, names), key=self.added, default=None)

    def _added(self, name: str) -> list[float]:
        # Within a round both ran on the same mood of the machine.
        pairs = zip(self.rounds[name], self.rounds[BARE], strict=True)
        return [max(spent - bare, 1e-3) for spent, bare in pairs]


async def compare(contestants: Mapping[str, Operation], effort: Effort) -> Timings:
    """Time everybody in every round: A B C, then C B A, then A B C again."""
    everybody = {BARE: succeed, **contestants}
    rounds: dict[str, list[float]] = {name: [] for name in everybody}
    for operation in everybody.values():
        await _time(operation, min(effort.calls, 500))
    try:
        for number in range(effort.rounds):
            order = list(everybody) if number % 2 == 0 else list(reversed(everybody))
            for name in order:
                _clean_heap()
                rounds[name].append(await _time(everybody[name], effort.calls))
    finally:
        gc.unfreeze()
    return Timings(rounds)


@contextmanager
def clean_heap() -> Iterator[None]:
    """Keep the garbage of others, and the heap of the whole program, out of what is measured.

    The collector stays on: whoever leaves reference cycles behind pays for them, as in a program.
    """
    _clean_heap()
    try:
        yield
    finally:
        gc.unfreeze()


def _clean_heap() -> None:
    # What was frozen before is not looked at again: a pool of 10,000 takes a tenth of a second.
    gc.collect()
    gc.freeze()


async def _time(operation: Operation, calls: int) -> float:
    steps = max(1, calls // _CALLS_PER_LOOP_STEP)
    began = time.process_time_ns()
    for _ in range(steps):
        for _ in range(_CALLS_PER_LOOP_STEP):
            await operation()
        await asyncio.sleep(0)
    return (time.process_time_ns() - began) / 1000 / (steps * _CALLS_PER_LOOP_STEP)


def run_loop(main: Coroutine[Any, Any, Any], loop: str) -> Any:
    """Run on an event loop of asyncio's or of uvloop's."""
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - optional

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
