"""How a run of a pool comes to its end: drained, stopped or killed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.errors import PolicyError
from penstock.workers.modes import leave_mode

if TYPE_CHECKING:
    from penstock.workers.run import Run

__all__ = ["Ending"]


class Ending:
    """Ends the jobs and the workers of a run, once.

    Args:
        run: What ends.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """True when nothing is left of the run."""
        return self._over is not None and self._over.done()

    async def drain(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - what is left goes on
        """Take no more jobs and wait until those there are have ended.

        Returns:
            False when the time was up before; they go on.
        """
        self._check_outside("drain")
        self._run.close("it was drained")
        return await self._wait_for_jobs(timeout)

    async def stop(self, timeout: float | None) -> None:  # noqa: ASYNC109 - what is left is told
        """Take no more jobs, finish those there are, stop the workers.

        Whoever comes second waits for the end as well. A cancelled stop is a kill.
        """
        self._check_outside("stop")
        if self._over is not None:
            await asyncio.shield(self._over)
            return
        self._over = self._loop.create_future()
        try:
            self._run.close("it was stopped")
            if not await self._wait_for_jobs(timeout):
                await self._give_up_jobs()
            await self._stop_workers()
            await self._run.failing.letters.settle(self._run.options.stop_timeout)
        except BaseException:
            await self.kill()
            raise
        finally:
            self._leave()

    def begin(self) -> None:
        """Stop in a task of its own, unless somebody is about to."""
        if self._over is None:
            name = f"{self._run.options.name} stops"
            self._task = self._loop.create_task(self.stop(None), name=name)

    async def kill(self) -> None:
        """End all jobs at once, then the workers: nothing waits for more than ``stop_timeout``.

        A worker that serves nobody any more still gets its ``stop``: it gives back what the worker
        holds.
        """
        self._run.close("it was killed")
        try:
            await self._give_up_jobs()
            await self._stop_workers()
            await self._run.failing.letters.settle(self._run.options.stop_timeout)
        finally:
            self.kill_now()

    def kill_now(self) -> None:
        """End everything in this step; no worker gets its ``stop``."""
        run = self._run
        run.close("it was killed")
        if not self._loop.is_closed():
            run.dispatcher.end_queued(run.refusal)
            run.dispatcher.cancel_active()
        for slot in [*run.slots.values()]:
            run.supervisor.kill(slot)
        self._leave()

    async def _wait_for_jobs(self, seconds: float | None) -> bool:
        self._run.resume()
        try:
            async with asyncio.timeout(seconds):
                await self._run.dispatcher.join()
        except TimeoutError:
            return False
        return True

    async def _give_up_jobs(self) -> None:
        run, limit = self._run, self._run.options.stop_timeout
        run.dispatcher.end_queued(run.refusal)
        tasks = run.dispatcher.cancel_active()
        if not self._is_inside:
            # Until they have cleaned up; whoever called one in their own task goes on living.
            await self._wait_for_jobs(limit)
        elif tasks:
            await asyncio.wait(tasks, timeout=limit)

    async def _stop_workers(self) -> None:
        run = self._run
        run.staffing.close()
        run.health.close()
        stopping: list[asyncio.Task[None]] = []
        for slot in [*run.slots.values()]:
            if slot.in_flight:
                # Cancelled, and not gone after all that time.
                run.supervisor.kill(slot)
            elif (task := run.supervisor.stop(slot, "stopped")) is not None:
                stopping.append(task)
        if stopping:
            await asyncio.wait(stopping)
        await leave_mode(run.options)

    def _leave(self) -> None:
        self._run.staffing.close()
        self._run.health.close()
        if self._over is None:
            self._over = self._loop.create_future()
        if not self._over.done() and not self._loop.is_closed():
            self._over.set_result(None)

    @property
    def _is_inside(self) -> bool:
        own = asyncio.current_task()
        return any(piece.task is own for piece in self._run.dispatcher.active)

    def _check_outside(self, what: str) -> None:
        if self._is_inside:
            name = self._run.options.name
            msg = f"pool '{name}': {what} waits for all jobs and was called by one; raise StopPool"
            raise PolicyError(msg)
