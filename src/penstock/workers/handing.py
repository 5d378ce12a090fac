"""How a pool of workers is handed its jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from typing import Any

from penstock.batch import Items
from penstock.errors import ConfigError
from penstock.options import Whole
from penstock.policy import Policy
from penstock.progress import Progress
from penstock.workers.broadcast import broadcast
from penstock.workers.chunks import Pace, chunk_target
from penstock.workers.controls import Controls
from penstock.workers.job import Job
from penstock.workers.mapping import MapOptions, results_of
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.pipeline import Way
from penstock.workers.run import Run
from penstock.workers.target import Target, target_of
from penstock.workers.telling import Telling

__all__ = ["Handing"]

_COUNT = Whole(1)

# Programs call a few methods. One that makes a function per job must not grow.
_MOST_KEPT = 256


class Handing(Controls, Telling):
    """Makes jobs of what the user asks for."""

    _targets: dict[Any, Target]

    def _job(  # noqa: PLR0913, PLR0917 - what can be said of a job
        self,
        run: Run,
        target: Target,
        given: tuple[tuple[Any, ...], dict[str, Any]],
        priority: int = 0,
        key: str | None = None,
        policy: Policy | None = None,
    ) -> Job[Any]:
        args, kwargs = given
        way = run.ways.default
        if priority or key is not None or policy is not None:
            way = self._own_way(run, priority, key, policy)
        return run.dispatcher.job(way, target, args, kwargs or None, priority)

    def _own_way(self, run: Run, priority: Any, key: Any, policy: Any) -> Way:
        options = self.options
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise _refusal("priority", priority, "a whole number")
        if key is not None:
            if not isinstance(key, str) or not key:
                raise _refusal("key", key, "a text that is not empty, or None")
            if options.pick != "sticky" and isinstance(options.pick, str):
                allowed = f"left out: with pick='{options.pick}' it would change nothing"
                raise _refusal("key", key, f"{allowed}; keep jobs together with pick='sticky'")
        if policy is not None and not isinstance(policy, Policy):
            raise _refusal("policy", policy, "a Policy, or None")
        way = run.ways.of(policy)
        return way.with_own(priority, key) if priority or key is not None else way

    def _target(self, work: Any) -> Target:
        try:
            target = self._targets.get(work)
        except TypeError:
            # It cannot be hashed.
            return target_of(work, self._makes.kind)
        if target is None:
            target = target_of(work, self._makes.kind)
            if len(self._targets) >= _MOST_KEPT:
                self._targets.clear()
            self._targets[work] = target
        return target

    def _caller(self, target: Target) -> Callable[..., Coroutine[Any, Any, Any]]:
        def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            run = self._run
            if run is None:
                run = self._running()
            return run.dispatcher.call(run.ways.default, target, args, kwargs)

        call.__name__ = call.__qualname__ = target.operation_name
        return call

    def _results(  # noqa: PLR0913 - the options of ``map``
        self,
        target: Target,
        items: Items[Any],
        *,
        ordered: bool,
        concurrency: int | None,
        return_exceptions: bool,
        progress: Progress,
        chunk: int | None,
    ) -> AsyncGenerator[Any, None]:
        run, options = self._running(), self.options
        pace = _pace(run, items, _checked("chunk", chunk))
        job_target = target if pace is None else self._in_chunks(target)
        # As many again as are served, so that no worker waits for the next.
        calls = 2 * options.most * options.per_worker
        window = _checked("concurrency", concurrency)
        if window is None:
            window = calls * (1 if pace is None else pace.most)

        async def submit(item: Any) -> Job[Any]:
            job = self._job(run, job_target, ((item,), {}))
            await run.dispatcher.submit(job)
            return job

        how = MapOptions(window, calls, ordered, return_exceptions, progress)
        return results_of(submit, items, how, pace)

    def _in_chunks(self, target: Target) -> Target:
        shape = target.function or getattr(self._makes.kind, target.name or "", None)
        return chunk_target(target, shape, seals=self.options.mode in ("process", "ray"))

    async def _everywhere(
        self, target: Target, given: tuple[tuple[Any, ...], dict[str, Any]], *, keep: bool
    ) -> list[Any]:
        return await broadcast(self._running(), target, given, keep=keep)


def _pace(run: Run, items: Items[Any], chunk: int | None) -> Pace | None:
    if chunk is None:
        # What counts calls, or failures, must see each; a slow source must not hold results back.
        options = run.options
        counted = (options.policy, options.escalation, options.on_drop) != (None, None, None)
        is_far = getattr(run.crew.mode, "is_far", False)
        if not is_far or counted or isinstance(items, AsyncIterable):
            return None
    return Pace(chunk)


def _checked(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        return _COUNT.read(value)
    except ValueError:
        raise _refusal(name, value, f"{_COUNT.allowed}, or None") from None


def _refusal(name: str, value: object, allowed: str) -> ConfigError:
    return WorkerPoolOptions.refuse(name, value, allowed)
