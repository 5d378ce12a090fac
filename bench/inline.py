"""The five concerns written by hand in one function: what a policy costs at the very least.

It is correct and does nothing else: one loop, no events, no classification, nothing to configure.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Literal

from bench.harness import Operation

__all__ = ["Timer", "inline"]

Timer = Literal["none", "loop timer", "asyncio.timeout"]

_ATTEMPTS, _RATE, _LIMIT, _SECONDS = 3, 1_000_000, 100, 5.0
_MAX_FAILURES, _RECOVER_AFTER = 5, 30.0
_TIMED_OUT = object()


class CircuitOpen(Exception):  # noqa: N818 - as in the libraries
    """Too many failures in a row."""


def inline(operation: Operation, timer: Timer) -> Operation:  # noqa: C901, PLR0915 - all inline
    """Return the operation with retry, rate, breaker, concurrency and an attempt timeout."""
    loop = asyncio.get_running_loop()
    monotonic, current_task = time.monotonic, asyncio.current_task
    starts: deque[float] = deque()
    permits: deque[asyncio.Future[None]] = deque()
    in_flight = failures = 0
    opened_at = 0.0

    async def call() -> Any:  # noqa: C901, PLR0912, PLR0915 - all inline
        nonlocal in_flight, failures, opened_at
        attempt = 0
        while True:
            attempt += 1
            now = monotonic()
            while starts and starts[0] + 1 <= now:
                starts.popleft()
            while len(starts) >= _RATE:
                await asyncio.sleep(starts[0] + 1 - now)
                now = monotonic()
                while starts and starts[0] + 1 <= now:
                    starts.popleft()
            starts.append(now)
            if failures >= _MAX_FAILURES and now < opened_at + _RECOVER_AFTER:
                raise CircuitOpen
            while in_flight >= _LIMIT:
                permit: asyncio.Future[None] = loop.create_future()
                permits.append(permit)
                await permit
            in_flight += 1
            try:
                if timer == "none":
                    result = await operation()
                elif timer == "asyncio.timeout":
                    async with asyncio.timeout(_SECONDS):
                        result = await operation()
                else:
                    task = current_task(loop)
                    handle = loop.call_later(_SECONDS, task.cancel, _TIMED_OUT)
                    try:
                        result = await operation()
                    except asyncio.CancelledError as cancelled:
                        if cancelled.args == (_TIMED_OUT,) and task.uncancel() <= 0:
                            raise TimeoutError from cancelled
                        raise
                    finally:
                        handle.cancel()
            except (ConnectionError, TimeoutError):
                failures += 1
                opened_at = monotonic()
                if attempt >= _ATTEMPTS:
                    raise
            else:
                failures = 0
                return result
            finally:
                in_flight -= 1
                while permits:
                    permit = permits.popleft()
                    if not permit.done():
                        permit.set_result(None)
                        break

    return call
