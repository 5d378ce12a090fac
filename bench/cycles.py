"""Reference cycles that one call leaves to the garbage collector."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import suppress

from bench.contestants import PENSTOCK, contestants
from bench.harness import Effort, Operation, run_loop, succeed
from bench.section import Goal, Section, Table
from bench.two_failures import flaky

__all__ = ["run"]

_ABOUT = (
    "Objects that only the collector can free after one call, counted with `gc.DEBUG_SAVEALL` "
    "after a few calls to warm up. Cycles make memory grow until the collector runs, and make it "
    "run more often."
)


def run(effort: Effort, loop: str) -> Section:  # noqa: ARG001 - one interface
    """Count what one call of everybody leaves behind."""
    rows, left = run_loop(_rows(), loop)
    return Section(
        name="cycles",
        title="Reference cycles",
        about=_ABOUT,
        tables=[
            Table(
                columns=("contestant", "success", "two failures", "three failures", "what is left"),
                rows=rows,
            )
        ],
        goals=[Goal("objects in cycles after one successful call", float(left), 0.0)],
    )


async def _rows() -> tuple[list[tuple[str | int, ...]], int]:
    rows, ours = [], 0
    for name in contestants(succeed):
        good, _ = await _left_by(contestants(succeed)[name])
        again, kinds = await _left_by(contestants(flaky())[name], 3)
        lost, kinds_lost = await _left_by(contestants(_fail)[name], 0)
        ours = good if name == PENSTOCK else ours
        rows.append((name, good, again, lost, _words(kinds + kinds_lost)))
    return rows, ours


async def _left_by(operation: Operation, warm_up: int = 6) -> tuple[int, Counter[str]]:
    for _ in range(warm_up):
        await operation()
    gc.collect()
    was_enabled, flags, kept = gc.isenabled(), gc.get_debug(), len(gc.garbage)
    gc.disable()
    try:
        await _swallow(operation)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return len(gc.garbage) - kept, Counter(type(o).__name__ for o in gc.garbage[kept:])
    finally:
        gc.set_debug(flags)
        del gc.garbage[kept:]
        if was_enabled:
            gc.enable()


async def _swallow(operation: Operation) -> None:
    with suppress(Exception):
        await operation()


async def _fail() -> int:
    raise ConnectionError("connection reset by peer")


def _words(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
