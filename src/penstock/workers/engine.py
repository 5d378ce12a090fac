"""What a pool needs to know of the place in which a worker lives: its loop, a thread, a process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.workers.options import WorkerPoolOptions
from penstock.workers.target import Target

__all__ = ["CALL_CANCELLED", "Engine", "Mode", "WorkerSpec"]

CALL_CANCELLED = "a call was cancelled"
"""Why an engine ends a worker whose work cannot be cancelled otherwise; no sign of trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """How one worker is made.

    Attributes:
        id: The worker's id in its pool.
        index: Its place, from 0; ``start`` is given it where it has a parameter ``index``.
        make: Makes the worker: its class, or a function.
        args: What ``make`` is called with.
        kwargs: The same, by keyword.
        options: The pool's.
    """

    id: str
    index: int
    make: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: WorkerPoolOptions


class Engine(Protocol):
    """One worker in the place where it lives, as the pool's event loop sees it.

    It is used once: started, called, and stopped or killed. All methods are called in the pool's
    loop. What a method of the worker raises is raised by ``call``; ``SystemExit`` in it ends the
    worker, not the program.
    """

    async def start(self) -> None:
        """Make the worker and run its ``start``.

        Raises:
            Exception: Whatever making or starting it has raised; the engine is killed then.
        """
        ...

    def call(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        """Call a method; cancelling the awaitable ends the work, or leaves it to end by itself.

        Work that cannot be cancelled is put on the call (``Call.lingering``), so that the worker
        counts as busy until it has ended.

        Raises:
            WorkerDiedError: The worker ended meanwhile.
        """
        ...

    async def healthy(self) -> bool:
        """Ask the worker's ``healthy``; True where it has none."""
        ...

    async def stop(self) -> None:
        """Run the worker's ``stop`` and leave the place; no call is under way."""
        ...

    def kill(self) -> None:
        """Leave the place at once; calls under way fail with ``WorkerDiedError``."""
        ...


Mode = Callable[[WorkerSpec, Callable[[str], None]], Engine]
"""Makes the engine of a worker; the second argument is told why when the worker dies by itself."""
