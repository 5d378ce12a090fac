"""An event loop whose clock jumps: a test of an hour's back-off takes a millisecond.

When nothing is ready, the loop sets its clock to the next timer and goes on. When nothing is
scheduled either, every task waits for something that cannot come any more, and it raises
``Deadlock``: a lost wake-up becomes an error in place of a hang.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

from penstock import clock

__all__ = ["Deadlock", "VirtualTimeLoop", "run"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Timers closer together than this fire in one step, as on the real loop.
_RESOLUTION = 1e-9

# So many steps in a row may be for timers that are due at once, before the clock is helped on.
_MOST_STILL = 100


class Deadlock(Exception):  # noqa: N818 - the word every reader knows
    """Tasks wait, nothing is ready and nothing is scheduled: they would wait for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop in virtual time.

    While it runs, ``penstock.clock`` reads its time too. Worker threads (``asyncio.to_thread``,
    ``run_in_executor``) take no virtual time: the clock stands still until they are done, or until
    the next timer's wait has really passed. Sockets are polled but not waited for while a timer is
    scheduled, so a test of real input and output belongs on a real loop.

    Args:
        start: The second at which its clock starts; finite.

    Attributes:
        steps: Iterations so far; each runs every handle that was ready when it began.

    Raises:
        Deadlock: From ``run_until_complete`` and its callers: nothing can happen any more.
        ValueError: ``start`` is NaN or infinite.
    """

    # Attributes of asyncio's own loops since Python 3.4 that typeshed leaves out.
    _clock_resolution: float
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, start: float = 0.0) -> None:
        super().__init__(_JumpingSelector(self))
        if not math.isfinite(start):
            self.close()
            raise ValueError(f"start must be a finite number of seconds; got {start!r}")
        self.steps = 0
        self._outside = 0
        self._still = 0
        self._set_time(float(start))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def run_forever(self) -> None:
        """Run until ``stop()``, with ``penstock.clock`` in virtual time."""
        with clock.replaced_by(self.time):
            super().run_forever()

    @contextmanager
    def outside_work(self) -> Generator[None, None, None]:
        """Hold the clock, because a thread of the caller's own is going to call back.

        Executors need no such help: they are noticed.
        """
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run ``func`` in a worker thread or process; the clock stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._outside += 1
        future.add_done_callback(self._came_back)
        return future

    async def shutdown_default_executor(self, *args: float | None, **kwargs: float | None) -> None:
        """Wait for the worker threads to end; Python 3.12 added a ``timeout``."""
        with self.outside_work():
            await super().shutdown_default_executor(*args, **kwargs)

    def _came_back(self, _future: asyncio.Future[Any]) -> None:
        self._outside -= 1

    def _next_timer(self) -> float:
        return self._scheduled[0].when() if self._scheduled else math.inf

    def _waits_outside(self, descriptors: int) -> bool:
        # The first descriptor is the loop's own, by which threads and signals wake it.
        return self._outside > 0 or (descriptors > 1 and math.isinf(self._next_timer()))

    def _jump(self) -> None:
        when = self._next_timer()
        if math.isfinite(when):
            self._set_time(max(self._now, when))
        elif not self._outside:
            raise Deadlock(_describe(asyncio.all_tasks(self)))

    def _nudge(self) -> None:
        # Code that computes its timers from sums of floats may find that it is a rounding error too
        # early, and set a timer for now, again and again. A real clock moves on meanwhile.
        self._still = 0 if self._ready or not self._scheduled else self._still + 1
        if self._still > _MOST_STILL:
            self._still = 0
            self._set_time(self._now + self._clock_resolution)

    def _set_time(self, now: float) -> None:
        self._now = now
        # asyncio runs a timer when ``when < now + resolution``. At 1e9 s the gap between two floats
        # is wider than a nanosecond, and a timer due exactly now would never run.
        self._clock_resolution = max(_RESOLUTION, 2 * math.ulp(now))


class _JumpingSelector(selectors.DefaultSelector):
    """Where a loop waits, once per step: jumps where a real one would sleep."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self._loop
        loop.steps += 1
        ready = super().select(0)
        if ready or timeout == 0:
            loop._nudge()  # noqa: SLF001 - one mechanism, two classes
            return ready
        if loop._waits_outside(len(self.get_map())):  # noqa: SLF001 - one mechanism, two classes
            ready = super().select(timeout)
        if not ready:
            loop._jump()  # noqa: SLF001 - one mechanism, two classes
        return ready


def run(main: Coroutine[Any, Any, T], *, start: float = 0.0) -> T:
    """Run a coroutine in virtual time; what ``asyncio.run`` is for real time.

    Args:
        main: The coroutine to run.
        start: The second at which the clock starts; finite.

    Returns:
        What ``main`` returned.

    Raises:
        Deadlock: Every task waits and nothing is scheduled.
    """
    with asyncio.Runner(loop_factory=functools.partial(VirtualTimeLoop, start)) as runner:
        return runner.run(main)


def _describe(tasks: set[asyncio.Task[Any]]) -> str:
    who = "1 task waits" if len(tasks) == 1 else f"{len(tasks)} tasks wait"
    waiting = sorted(f"\n  {task.get_name()}: {_where(task)}" for task in tasks)
    return f"deadlock: {who} and nothing is scheduled" + "".join(waiting)


def _where(task: asyncio.Task[Any]) -> str:
    places: list[str] = []
    awaited: Any = task.get_coro()
    while (frame := _frame(awaited)) is not None:
        code = frame.f_code
        places.append(f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}")
        awaited = awaited.cr_await if inspect.iscoroutine(awaited) else awaited.gi_yieldfrom
    return " > ".join(places) or repr(awaited)


def _frame(awaited: object) -> FrameType | None:
    if inspect.iscoroutine(awaited):
        return awaited.cr_frame
    return awaited.gi_frame if inspect.isgenerator(awaited) else None
