"""How a call is cancelled in an actor, and how long anybody waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.workers.modes.ray_place import ENDS, RUNS_ON
from penstock.workers.modes.ray_replies import Reply

__all__ = ["Cancelling"]

# Most methods have cleaned up by then. Who has a time limit does not wait for all of them.
_PATIENCE = 1.0


class Cancelling:
    """A call whose caller leaves.

    An async method is given time to clean up. A sync one, which cannot be cancelled, and whatever
    does not end in time ends the actor, where that is wanted.

    Args:
        call: The call's reply.
        told: The reply to ``RayPlace.cancel``.
        end: Ends the actor, and is told why; None to let the call end by itself.
        seconds: Seconds until a call that should end is overdue.
    """

    __slots__ = ("_call", "_end", "_enough", "_overdue", "_patience", "_told")

    def __init__(
        self, call: Reply, told: Reply, end: Callable[[str], None] | None, seconds: float
    ) -> None:
        loop = asyncio.get_running_loop()
        self._call = call
        self._told = told
        self._end = end
        self._enough: asyncio.Future[None] = loop.create_future()
        self._patience = loop.call_later(_PATIENCE, self._let_go)
        self._overdue = loop.call_later(seconds, self._is_overdue)
        call.when_arrived(self._has_ended)
        told.when_arrived(self._was_told)

    async def wait(self) -> None:
        """Wait until the call has ended, or there is nothing to wait for."""
        await self._enough

    def _was_told(self) -> None:
        word = self._told.result
        if word == ENDS:
            return
        # What only waits for its turn does not begin any more. It must not end whoever is served.
        self._overdue.cancel()
        self._let_go()
        if word == RUNS_ON and not self._call.arrived:
            self._end_actor("a cancelled call ran on")

    def _is_overdue(self) -> None:
        self._end_actor("a cancelled call did not end")

    def _end_actor(self, reason: str) -> None:
        if self._end is not None:
            self._end(reason)

    def _has_ended(self) -> None:
        self._overdue.cancel()
        self._let_go()

    def _let_go(self) -> None:
        self._patience.cancel()
        if not self._enough.done():
            self._enough.set_result(None)
