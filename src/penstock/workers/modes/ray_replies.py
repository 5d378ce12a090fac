"""What actors answer, brought from Ray's threads to the pool's event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

__all__ = ["Replies", "Reply"]


class Reply:
    """What one call of an actor answers.

    Attributes:
        future: For whoever awaits it; cancelling it does nothing to the actor.
        arrived: Set when the actor has answered, or has ended.
        result: The answer, once there is one.
        failure: What the call has failed with, once it has.
    """

    __slots__ = ("_then", "arrived", "failure", "future", "result")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.arrived = False
        self.result: Any = None
        self.failure: BaseException | None = None
        self._then: list[Callable[[], object]] = []

    def when_arrived(self, then: Callable[[], object]) -> None:
        """Call ``then`` when the actor has answered, whether that is awaited or not."""
        if self.arrived:
            then()
        else:
            self._then.append(then)

    def arrive(self, result: Any, failure: BaseException | None) -> None:
        """Hand the answer to whoever awaits it."""
        self.arrived, self.result, self.failure = True, result, failure
        future = self.future
        if not future.done():
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
                # Nobody may be there to take it.
                future.exception()
        then, self._then = self._then, []
        for tell in then:
            tell()


class Replies:
    """The answers that are outstanding from one actor."""

    __slots__ = ("_inbox", "_loop", "_outstanding")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[tuple[Reply, Future[Any]]] = deque()
        self._outstanding: set[Reply] = set()

    def to(self, ref: Any) -> Reply:
        """Return the reply to a call of the actor.

        Args:
            ref: What Ray has returned for the call.
        """
        reply = Reply(self._loop.create_future())
        self._outstanding.add(reply)
        # Awaiting the reference does the same, with one future more.
        ref.future().add_done_callback(partial(self._came, reply))
        return reply

    def end_all(self, failure: Callable[[], BaseException]) -> None:
        """End whatever is outstanding, each with a failure of its own."""
        outstanding, self._outstanding = self._outstanding, set()
        for reply in outstanding:
            reply.arrive(None, failure())

    def _came(self, reply: Reply, answer: Future[Any]) -> None:
        # In a thread of Ray's.
        self._inbox.append((reply, answer))
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return

    def _deliver(self) -> None:
        inbox = self._inbox
        while inbox:
            reply, answer = inbox.popleft()
            if reply.arrived:
                continue
            self._outstanding.discard(reply)
            failure = answer.exception()
            reply.arrive(None if failure else answer.result(), failure)
