"""Jobs that were given up: a line in the log, an event, and what the hook ``on_drop`` is told."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from penstock import clock
from penstock.events import JobDropped
from penstock.hooks import Hook
from penstock.workers.events import Dropped
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.tally import Tally

__all__ = ["FAILED", "REJECTED", "SKIPPED", "STOPPED", "Letters"]

_log = logging.getLogger("penstock")
_jobs_log = logging.getLogger("penstock.workers")

FAILED = "failed"
SKIPPED = "skipped"
STOPPED = "stopped"
REJECTED = "rejected"

_ONE = "job '%s' of pool '%s' was given up: %s (%s)"
_MANY = "%d jobs of pool '%s' were given up: stopped"


class Letters:
    """Tells who wants to know of every job that is given up, once the pool's state is settled.

    Hooks and observers may call back in, so they are told in a step of their own.

    Args:
        options: The pool's.
        tally: Where such jobs are counted.
        tell: Takes events.
    """

    def __init__(self, options: WorkerPoolOptions, tally: Tally, tell: Callable[..., None]) -> None:
        self._pool = options.name
        self._tally = tally
        self._tell = tell
        self._hook = None if options.on_drop is None else Hook(options.on_drop, self._report)
        self._has_reported = False
        self._waiting: deque[Dropped] = deque()

    def drop(self, work: Any, failure: BaseException, reason: str) -> None:
        """Give up a job, or a direct call, of which all is still known."""
        self._tally.dropped[reason] += 1
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.deliver)
        self._waiting.append(
            Dropped(
                policy=self._pool,
                at=clock.now(),
                operation=work.operation_name,
                reason=reason,
                error_type=type(failure).__name__,
                failure=failure,
                args=work.args,
                kwargs=dict(work.kwargs),
            )
        )

    def deliver(self) -> None:
        """Tell of all those that nobody has been told of."""
        stopped = 0
        while self._waiting:
            letter = self._waiting.popleft()
            if letter.reason == STOPPED:
                stopped += 1
            else:
                self._log(letter)
            self._tell(
                JobDropped,
                operation=letter.operation,
                reason=letter.reason,
                error_type=letter.error_type,
            )
            if self._hook is not None:
                self._hook(letter)
        if stopped:
            # One line: there may be as many as the line is long.
            extra = self._extra(reason=STOPPED, operation=None, error_type=None)
            _jobs_log.warning(_MANY, stopped, self._pool, extra=extra)

    async def settle(self, seconds: float) -> None:
        """Wait until the hook has taken what it was told, for so many seconds at most."""
        self.deliver()
        if self._hook is not None and (pending := self._hook.pending):
            await asyncio.wait(pending, timeout=seconds)

    def _log(self, letter: Dropped) -> None:
        # Never the failure's text, which may hold anything.
        facts = {
            "operation": letter.operation,
            "reason": letter.reason,
            "error_type": letter.error_type,
        }
        extra = self._extra(**facts)
        _jobs_log.warning(
            _ONE,
            letter.operation,
            self._pool,
            letter.reason,
            letter.error_type,
            extra=extra,
        )

    def _extra(self, **facts: Any) -> dict[str, Any]:
        return {"event_name": "job_dropped", "pool": self._pool, **facts}

    def _report(self, error: BaseException) -> None:
        if not self._has_reported:
            self._has_reported = True
            msg = "pool '%s': on_drop raised; further errors are not shown"
            _log.error(msg, self._pool, exc_info=error)
