"""What whoever owns a pool of workers may do with it while it runs, and how it begins and ends."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from penstock.errors import PolicyError, PoolStoppedError
from penstock.options import Number, Whole
from penstock.workers.crew import Makes
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.run import Run

__all__ = ["Controls"]

_SECONDS = Number(unit="s")
_SIZE = Whole(1)


class Controls:
    """The life of a pool of workers: begun, changed while it runs, and ended."""

    options: WorkerPoolOptions
    _makes: Makes
    _run: Run | None

    async def start(self) -> None:
        """Start the workers; return when the first of them is up.

        Jobs may be submitted while the others start.

        Raises:
            PolicyError: The pool has been started already.
            Exception: What a worker's ``start`` raised, when none could be started.
        """
        old = self._run
        if old is not None:
            if old.is_lost:
                old.ending.kill_now()
            elif not old.ending.is_over:
                raise PolicyError(f"pool '{self.options.name}' has been started already")
        run = self._run = self._new_run()
        try:
            await run.start()
        except BaseException:
            await run.ending.kill()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever is cancelled must not wait for a long line of jobs.
        if error is None:
            await self.stop()
        elif not isinstance(error, Exception):
            await self.kill()
        elif self._run is not None:
            # Without saying what the pool has stopped for: the block says something already.
            await self._run.ending.stop(None)

    async def join(self) -> None:
        """Wait until no job is left, in line or under way.

        Raises:
            PoolStoppedError: The pool has been stopped, or stops by itself meanwhile.
        """
        run = self._running()
        await run.dispatcher.join()
        if run.stop_failure is not None:
            raise run.refusal()

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - tells, not ends
        """Take no more jobs, and wait until those there are have ended; a pause ends.

        Args:
            timeout: Most seconds to wait, from 0; None for no bound.

        Returns:
            False when the time was up before. What is left goes on; ``stop`` ends it.

        Raises:
            ConfigError: ``timeout`` is negative, NaN or infinite.
            PolicyError: A job of this pool has called it, which would wait for itself.
        """
        seconds = _checked_seconds(timeout)
        return True if self._run is None else await self._run.ending.drain(seconds)

    async def stop(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """Take no more jobs, finish those there are, then stop the workers; a pause ends.

        Once the pool has stopped, nothing happens. A stop that is cancelled becomes a ``kill``.
        Where the pool has stopped by itself, the first one to stop it is told what for; leaving its
        ``async with`` block is stopping it, too.

        Args:
            timeout: Most seconds for the jobs, from 0; then those that are left are cancelled, and
                dropped. None for no bound.

        Raises:
            ConfigError: ``timeout`` is negative, NaN or infinite.
            PolicyError: A job of this pool has called it, which would wait for itself.
            PoolStoppedError: The pool has stopped by itself: ``StopPool``, or too many failed jobs.
        """
        seconds = _checked_seconds(timeout)
        if self._run is not None and not self._run.is_lost:
            await self._run.ending.stop(seconds)
            self._run.raise_failure()

    async def kill(self) -> None:
        """End all jobs at once, and then all workers.

        Jobs in line and under way fail with ``PoolStoppedError``; it returns when they have cleaned
        up and the workers have stopped, which may take ``stop_timeout`` for each of both. A worker
        that does not let go of its call by then is ended without its ``stop``.
        """
        if self._run is None:
            return
        if self._run.is_lost:
            self._run.ending.kill_now()
        else:
            await self._run.ending.kill()

    def pause(self) -> None:
        """Give no call to any worker until ``resume``; those under way go on."""
        self._running().pause("asked for")

    def resume(self) -> None:
        """End a pause."""
        self._running().resume()

    async def resize(self, size: int) -> None:
        """Have another number of workers; return when all have started or stopped.

        Jobs go on meanwhile. The workers of the highest places stop, each when its calls have
        ended; new ones take the lowest places that are free.

        Args:
            size: How many, from 1; at most ``max_size`` where there is one.

        Raises:
            ConfigError: ``size`` is not allowed.
            PoolStoppedError: The pool takes no more jobs.
            Exception: What a new worker's ``start`` has failed with: that worker is parked.
        """
        run = self._running()
        most = run.crew.makes.places or self.options.max_size
        await run.staffing.resize(_checked_size(size, most))

    async def restart(self, id: str | None = None) -> None:  # noqa: A002 - its name everywhere
        """Start workers anew, one after the other, each when its calls have ended.

        Those that were parked are started again, and count as new.

        Args:
            id: One worker alone; None for all.

        Raises:
            KeyError: There is no worker of that id.
            PoolStoppedError: The pool takes no more jobs.
            Exception: What a worker's ``start`` has failed with: it is parked, and those after it
                were left alone.
        """
        run = self._running()
        ids = [*run.slots] if id is None else [id]
        if id is not None and id not in run.slots:
            raise KeyError(f"pool '{self.options.name}' has no worker of that id")
        for each in ids:
            slot = run.slots.get(each)
            try:
                if slot is not None:
                    await run.supervisor.renew(slot)
            except PoolStoppedError:
                # One of all may leave meanwhile: there is nothing left to start anew.
                if id is not None or run.stopped_for is not None:
                    raise

    def _new_run(self) -> Run:
        old = self._run
        return Run(self._makes, self.options, None if old is None else old.hand_over())

    def _running(self) -> Run:
        run = self._run
        if run is None:
            msg = f"pool '{self.options.name}' has not been started; use: async with pool"
            raise PoolStoppedError(msg)
        run.check_open()
        return run


def _checked_size(value: Any, most: int | None) -> int:
    allowed = _SIZE.allowed if most is None else f"a whole number from 1 to {most}"
    try:
        size = _SIZE.read(value)
    except ValueError:
        raise WorkerPoolOptions.refuse("size", value, allowed) from None
    if most is not None and size > most:
        raise WorkerPoolOptions.refuse("size", value, allowed)
    return size


def _checked_seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        return _SECONDS.read(value)
    except ValueError:
        raise WorkerPoolOptions.refuse("timeout", value, f"{_SECONDS.allowed}, or None") from None
