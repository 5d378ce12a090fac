"""A call that runs in its caller's own task, past the line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.workers.dispatcher import Dispatcher
    from penstock.workers.target import Target

__all__ = ["Direct"]


class Direct:
    """What the innermost stage starts, and what a pool that is killed ends.

    Attributes:
        target: What is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        task: The caller's.
        cancelling: That task's count of cancel requests when the call began.
        served: Whether a worker was found for it once.
        is_killed: Whether the pool has cancelled it.
    """

    __slots__ = (
        "__weakref__",
        "_dispatcher",
        "args",
        "cancelling",
        "is_killed",
        "kwargs",
        "served",
        "target",
        "task",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._dispatcher = dispatcher
        self.target = target
        self.args = args
        self.kwargs = kwargs
        self.task = task = asyncio.current_task(dispatcher.loop)
        self.cancelling = 0 if task is None else task.cancelling()
        self.served = False
        self.is_killed = False

    @property
    def operation_name(self) -> str:
        """What is called, for people to read."""
        return self.target.operation_name

    def __call__(self, resource: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run on the worker behind a resource."""
        if not self.served:
            self.served = True
            self._dispatcher.found_worker()
        else:
            resource.value.retried += 1
        return resource.value.serve(self.target, args, kwargs)

    def kill(self) -> None:
        """Cancel the call because the pool is killed."""
        if self.task is not None and not self.is_killed:
            self.is_killed = True
            self.task.cancel()

    def was_killed(self) -> bool:
        """Return True where the pool has cancelled the caller, and nobody else has."""
        # As asyncio.timeout does: it was ours alone if the count is back where it began.
        return self.is_killed and self.task is not None and self.task.uncancel() <= self.cancelling
