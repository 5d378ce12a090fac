"""Cancel a call at every point at which it can be cancelled, and see whether the books balance.

One scenario is run again and again, each time in a fresh virtual-time loop: first without a cancel,
then with the victim cancelled before the first handle that the loop runs, before the second, and so
on until the victim has finished first. That covers every order of the cancel and of whatever else
happens in the same loop step: the grant of a permit, a timer, another task's release.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from penstock.testing.scripted import ScriptOver
from penstock.testing.virtual_time import Deadlock, VirtualTimeLoop

__all__ = ["CancelSweepError", "Sweep", "cancel_sweep"]

S = TypeVar("S")

# No scenario of a stage comes near it; one that spins would never end.
_MAX_POINTS = 20_000


class CancelSweepError(AssertionError):
    """A scenario broke; the cause is the error of the check, the loop or the tasks.

    Attributes:
        step: The loop step, from 1 at the victim's start, in which the victim was cancelled; 0 when
            the scenario broke without any cancel.
    """

    def __init__(self, message: str, step: int = 0) -> None:
        super().__init__(message)
        self.step = step


class Sweep:
    """What a scenario gets to start its tasks with, in the order in which they are to begin."""

    def __init__(self, loop: _SweepLoop, point: int) -> None:
        self._loop = loop
        self._point = point
        self._points = 0
        self._since = 0
        self._victim: asyncio.Task[Any] | None = None
        self._beside: list[asyncio.Task[Any]] = []
        self._complaints: list[str] = []
        self.step = 0
        self.where = "without any cancel"
        loop.set_exception_handler(self._complain)

    def victim(self, operation: Coroutine[Any, Any, Any]) -> None:
        """Start the task that is going to be cancelled; one per scenario."""
        if self._victim is not None:
            operation.close()
            raise RuntimeError("a scenario has one victim; start the other tasks with beside()")
        self._victim = asyncio.create_task(operation, name="victim")
        self._since = self._loop.steps
        self._loop.at_point = self._reach

    def beside(self, *operations: Coroutine[Any, Any, Any]) -> None:
        """Start tasks that run beside the victim and must all succeed."""
        for operation in operations:
            name = f"beside-{len(self._beside) + 1}"
            self._beside.append(asyncio.create_task(operation, name=name))

    async def settle(self, raises: tuple[type[BaseException], ...]) -> None:
        """Wait until all tasks have ended, and judge how."""
        if self._victim is None:
            raise RuntimeError("the scenario started no victim; call sweep.victim(...)")
        await asyncio.wait([self._victim, *self._beside])
        while self._loop.is_busy:  # noqa: ASYNC110 - no event tells that nothing else is ready
            await asyncio.sleep(0)
        self._judge_victim(self._victim, raises)
        if failures := self.failures():
            raise AssertionError("; ".join(failures))

    def failures(self) -> list[str]:
        """Say which tasks beside the victim have failed, and how."""
        ended = [task for task in self._beside if task.done()]
        return [f"task {t.get_name()} failed: {e!r}" for t in ended if (e := _failure_of(t))]

    def judge_loop(self) -> None:
        """Check that no callback failed and that no task is left."""
        if self._complaints:
            raise AssertionError("; ".join(self._complaints))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            names = ", ".join(sorted(f"{t.get_name()} ({_name_of(t)})" for t in left))
            raise AssertionError(f"left running behind the victim: {names}")

    def _judge_victim(
        self, victim: asyncio.Task[Any], raises: tuple[type[BaseException], ...]
    ) -> None:
        error = None if victim.cancelled() else victim.exception()
        if self.step and not victim.cancelled():
            ending = f"returned {victim.result()!r}" if error is None else f"raised {error!r}"
            raise AssertionError(f"the cancel was swallowed: the victim {ending}") from error
        if error is not None and not isinstance(error, raises):
            raise error

    def _reach(self, place: str) -> None:
        victim = self._victim
        if victim is None or victim.done():
            self._loop.at_point = None
            return
        self._points += 1
        if self._points > _MAX_POINTS:
            self._loop.at_point = None
            raise RuntimeError(f"the victim did not end within {_MAX_POINTS} handles")
        if self._points == self._point:
            self.step = self._loop.steps - self._since
            self.where = f"when the victim was cancelled in step {self.step}, {place}"
            victim.cancel()

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._complaints.append(f"{context['message']}: {context.get('exception')!r}")


class _SweepLoop(VirtualTimeLoop):
    """A virtual-time loop that can be stopped at between any two handles."""

    _ready: deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__()
        self.at_point: Callable[[str], None] | None = None
        self._ready = _WatchedHandles(self)

    @property
    def is_busy(self) -> bool:
        return bool(self._ready)

    def _jump(self) -> None:
        if self.at_point is not None:
            self.at_point("while all waited")
        if not self._ready:
            super()._jump()


class _WatchedHandles(deque[asyncio.Handle]):
    def __init__(self, loop: _SweepLoop) -> None:
        super().__init__()
        self._loop = loop

    def popleft(self) -> asyncio.Handle:
        if self._loop.at_point is not None:
            self._loop.at_point(f"before {_describe(self[0])}")
        return super().popleft()


def cancel_sweep(
    scenario: Callable[[Sweep], Awaitable[S]],
    check: Callable[[S], object],
    *,
    raises: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> int:
    """Cancel a scenario's victim at every point, and check each time that nothing was lost.

    A cancelled victim must end cancelled: a call that swallows its caller's cancel fails the sweep.
    The tasks beside it must succeed, no callback of the loop may fail, and no task may be left.

    Args:
        scenario: ``async def scenario(sweep)``: builds everything anew, starts tasks with
            ``sweep.victim(...)`` and ``sweep.beside(...)``, returns what ``check`` needs.
        check: Takes what the scenario returned, when all tasks have ended; asserts that the books
            balance. Sync or async.
        raises: What an undisturbed victim may raise; without it, it has to succeed.

    Returns:
        How many points were tried.

    Raises:
        CancelSweepError: Something broke; the message says in which step the victim was cancelled.
    """
    allowed = raises if isinstance(raises, tuple) else (raises,)
    _run(scenario, check, allowed, point=0)
    point = 1
    while _run(scenario, check, allowed, point).step:
        point += 1
    return point - 1


def _run(
    scenario: Callable[[Sweep], Awaitable[S]],
    check: Callable[[S], object],
    raises: tuple[type[BaseException], ...],
    point: int,
) -> Sweep:
    async def act(sweep: Sweep) -> None:
        state = await scenario(sweep)
        await sweep.settle(raises)
        checked = check(state)
        if inspect.isawaitable(checked):
            await checked
        sweep.judge_loop()

    loop = _SweepLoop()
    sweep = Sweep(loop, point)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            runner.run(act(sweep))
        except (Exception, asyncio.CancelledError, ScriptOver) as error:
            text = f"broke {sweep.where}: {type(error).__name__}: {error}"
            if isinstance(error, Deadlock):
                text = "\n  ".join((text, *sweep.failures()))
            raise CancelSweepError(text, sweep.step) from error
    return sweep


def _failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _describe(handle: asyncio.Handle) -> str:
    callback: Any = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"task {owner.get_name()} ran"
    return f"{getattr(callback, '__qualname__', callback)} ran"


def _name_of(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", repr(coroutine))
