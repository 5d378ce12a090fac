"""Two failures, then success: the price of a retry."""

from __future__ import annotations

from bench.contestants import PENSTOCK, contestants
from bench.five_stages import table_of
from bench.harness import Effort, Operation, Timings, compare, run_loop
from bench.section import Goal, Section

__all__ = ["flaky", "run"]

_ABOUT = (
    "The same five stages round a function that raises `ConnectionError` twice and then returns. "
    "Retries come at once, so this is the CPU time of three attempts, of raising and catching "
    "two exceptions through all stages, and of deciding twice."
)


def run(effort: Effort, loop: str) -> Section:
    """Measure two retries with everybody."""

    async def main() -> Timings:
        return await compare(_flaky_contestants(), effort)

    timings = run_loop(main(), loop)
    return Section(
        name="two-failures",
        title="Two failures, then success",
        about=_ABOUT,
        tables=[table_of(timings)],
        goals=[
            Goal("two failures, then success: added µs", timings.added(PENSTOCK), 20.0),
        ],
    )


def flaky() -> Operation:
    """Return an operation that fails two times out of three."""
    calls = 0

    async def fail_twice() -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ConnectionError("connection reset by peer")
        return 1

    return fail_twice


def _flaky_contestants() -> dict[str, Operation]:
    # Each has a function of its own, so that nobody starts in the middle of a three.
    names = contestants(flaky())
    return {name: contestants(flaky())[name] for name in names}
