"""The rate that is admitted against the rate that was asked for, from 0.05/s to 50,000/s."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness import Effort, run_loop
from bench.section import Goal, Section, Table
from penstock import Policy, clock
from penstock.testing import run as run_virtual

__all__ = ["run"]

_RATES = (0.05, 0.5, 5, 50, 500, 5_000, 50_000)
_REAL_RATES, _REAL_SECONDS = (50, 500, 5_000), 2.0
_BURSTS = (None, 1, 10)
_CALLERS = 50

# Starts are compared with a sum of floats; a millionth of a call is nobody's call.
_ROUNDING = 1e-6

_ABOUT = (
    "{callers} callers call as fast as they are let. *Error* compares the long-run rate with the "
    "one that was asked for. *Worst window* is the largest number of starts in any window, of "
    "whatever length, above `burst + rate x window`; for the sliding window `burst` is what it "
    "holds, and starts in any one period are also counted against it alone. In virtual time the "
    "event loop is never late, so what is left is the limiter's own doing. In real time it is "
    "late by its own work, and calls that waited may catch up what they were late by (20 ms at "
    "most): then several start at once."
)


@dataclass(frozen=True, slots=True)
class _Seen:
    rate: float
    burst: int | None
    starts: int
    error: float
    excess: float


def run(effort: Effort, loop: str) -> Section:
    """Let callers loose on limiters of many rates."""
    virtual = [_virtual(rate, burst, effort.starts) for rate in _RATES for burst in _BURSTS]
    tables = [_table(virtual, "In virtual time:")]
    if effort.real_rounds:
        real = [_real(rate, burst, loop) for rate in _REAL_RATES for burst in _BURSTS]
        tables.append(_table(real, f"In real time, {_REAL_SECONDS:g} s each:"))
    return Section(
        name="admitted-rate",
        title="Admitted rate against asked",
        about=_ABOUT.format(callers=_CALLERS),
        tables=tables,
        goals=[
            Goal("admitted rate, virtual time: worst error in %", _worst_error(virtual), 1.0),
            Goal(
                "starts above burst + rate x window, virtual time",
                max(seen.excess for seen in virtual),
                _ROUNDING,
            ),
        ],
    )


def _worst_error(everything: Sequence[_Seen]) -> float:
    return max(abs(seen.error) for seen in everything)


def _virtual(rate: float, burst: int | None, most: int) -> _Seen:
    starts = run_virtual(_start_times(_policy(rate, burst), _enough(rate, burst, most)))
    return _judge(rate, burst, starts)


def _real(rate: float, burst: int | None, loop: str) -> _Seen:
    policy, count = _policy(rate, burst), round(rate * _REAL_SECONDS) + (burst or 1)
    return _judge(rate, burst, run_loop(_start_times(policy, count), loop))


def _policy(rate: float, burst: int | None) -> Policy:
    return Policy("bench").with_rate(rate, burst)


def _enough(rate: float, burst: int | None, most: int) -> int:
    if burst is None:
        # Whole windows, and the first start of the one after them; at least one of the largest.
        held = max(1, math.floor(rate))
        return held * max(1, min(20, most // held)) + 1
    return min(most, max(50, math.ceil(2 * rate))) + burst


async def _start_times(policy: Policy, count: int) -> list[float]:
    starts: list[float] = []

    async def start() -> None:
        starts.append(clock.now())

    async def call_on() -> None:
        while len(starts) < count:
            await policy.call(start)

    callers = [asyncio.create_task(call_on()) for _ in range(_CALLERS)]
    while len(starts) < count:
        await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    return starts[:count]


def _judge(rate: float, burst: int | None, starts: Sequence[float]) -> _Seen:
    held, period = _window(rate)
    at_once = held if burst is None else burst
    # The first start of a new window closes the windows before it; a bucket's burst came for free.
    counted = len(starts) - (1 if burst is None else burst)
    admitted = counted / (starts[-1] - starts[0])
    excess = _above(starts, at_once, rate)
    if burst is None:
        excess = max(excess, _most_within(starts, period) - held)
    return _Seen(rate, burst, len(starts), 100 * (admitted / rate - 1), excess)


def _window(rate: float) -> tuple[int, float]:
    held = max(1, math.floor(rate))
    return held, held / rate


def _above(starts: Sequence[float], burst: float, rate: float) -> float:
    # Over all pairs i <= j: (j - i + 1) - rate * (t_j - t_i) - burst, by its smallest prefix.
    lowest, worst = math.inf, -math.inf
    for number, at in enumerate(starts):
        value = number - rate * (at - starts[0])
        lowest = min(lowest, value)
        worst = max(worst, value - lowest + 1)
    return worst - burst


def _most_within(starts: Sequence[float], period: float) -> int:
    first = most = 0
    for number, at in enumerate(starts):
        while starts[first] + period <= at:
            first += 1
        most = max(most, number - first + 1)
    return most


def _table(everything: Sequence[_Seen], caption: str) -> Table:
    return Table(
        columns=("asked, per s", "kind", "starts", "error, %", "worst window above the bound"),
        rows=[_row(seen) for seen in everything],
        caption=caption,
    )


def _row(seen: _Seen) -> tuple[Any, ...]:
    kind = "sliding window" if seen.burst is None else f"burst={seen.burst}"
    above = seen.excess if seen.excess > _ROUNDING else 0
    return f"{seen.rate:g}", kind, seen.starts, round(seen.error, 4) + 0.0, above
