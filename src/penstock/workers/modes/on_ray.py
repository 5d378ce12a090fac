"""Workers on Ray: an actor each, on this machine or any other of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from penstock.call import Call, current_call
from penstock.errors import PolicyError, WorkerDiedError
from penstock.operation import Lingering
from penstock.workers.engine import WorkerSpec
from penstock.workers.host import Answer
from penstock.workers.modes import ray_session
from penstock.workers.modes.ray_api import exceptions, ray
from penstock.workers.modes.ray_cancel import Cancelling
from penstock.workers.modes.ray_place import BESIDE, RayPlace
from penstock.workers.modes.ray_replies import Replies, Reply
from penstock.workers.modes.ray_sending import (
    ENDS,
    check_actor_options,
    check_arguments,
    check_sendable,
    dumps,
    read_error,
    why_it_ended,
)
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.remote_call import carrier_of, play
from penstock.workers.target import Target

__all__ = ["RayEngine"]

# Starting, stopping and cancelled calls that still clean up come on top of the calls.
_ROOM = 8

# Functions given with single jobs. A program that makes one per job must not grow.
_MOST_KEPT = 64


class RayEngine:
    """A worker in an actor.

    Ray restarts nothing: whether, when and how often is the pool's to decide. What is sent to the
    worker is the call alone; all that its policy counts stays here.
    """

    __slots__ = (
        "_actor",
        "_calls",
        "_died",
        "_ended",
        "_reason",
        "_replies",
        "_sent",
        "_spec",
    )

    def __init__(self, spec: WorkerSpec, died: Callable[[str], None]) -> None:
        self._spec = spec
        self._died = died
        self._actor: Any = None
        self._calls = count()
        self._ended = False
        self._reason = "killed"
        self._replies = Replies()
        # By target: what stands for it on the way.
        self._sent: dict[Target, str | bytes] = {}

    # A call costs a millisecond: where many are of a kind, ``map`` sends them together.
    is_far = True

    check = staticmethod(check_sendable)
    check_options = staticmethod(check_actor_options)

    @staticmethod
    async def left(options: WorkerPoolOptions) -> None:
        """Disconnect from Ray after the last worker of a pool, if the pool has connected to it."""
        await asyncio.get_running_loop().run_in_executor(None, ray_session.leave, options)

    async def place(self) -> None:
        """Wait until a node of the cluster has room for the actor, however long that takes."""
        options = self._spec.options
        await asyncio.get_running_loop().run_in_executor(None, ray_session.enter, options)
        most = options.per_worker + _ROOM
        kind = ray.remote(concurrency_groups={BESIDE: most})(RayPlace)
        made = kind.options(max_concurrency=most, max_restarts=0, **(options.ray_options or {}))
        self._actor = made.remote(self._spec.index, self._spec.id)
        await self._replies.to(self._actor.__ray_ready__.remote()).future

    async def start(self) -> None:
        """Make the worker in its actor and run its ``start``."""
        spec = self._spec
        if self._actor is None:
            await self.place()
        actor: Any = self._actor
        await self._answered(actor.start.remote(spec.make, *spec.args, **spec.kwargs), "start")
        # Without this nobody is told that an idle actor has ended.
        watch = self._replies.to(actor.watch.remote())
        watch.when_arrived(lambda: self._look_at(watch.failure))

    async def call(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method in the actor."""
        call, number = current_call(), next(self._calls)
        work, carrier = self._work(target), _carried(call)
        try:
            ref = self._actor.run.remote(number, work, carrier, *args, **kwargs)
        except TypeError:
            check_arguments(target.operation_name, args, kwargs)
            raise
        return self._open(await self._outcome(call, number, ref, target), call)

    async def healthy(self) -> bool:
        """Ask the worker's ``healthy``; True where it has none, or the worker is busy.

        An actor that hangs does not answer at all.
        """
        return bool(await self._answered(self._actor.healthy.remote(), "healthy"))

    async def stop(self) -> None:
        """Run the worker's ``stop`` and end the actor."""
        try:
            await self._answered(self._actor.stop.remote(), "stop")
        finally:
            self.kill()

    def kill(self) -> None:
        """End the actor; calls under way fail with ``WorkerDiedError``."""
        if self._ended:
            return
        self._ended = True
        # Whoever has disconnected has ended it; asking Ray to would connect again.
        if self._actor is not None and ray.is_initialized():
            with suppress(exceptions.RayError):
                ray.kill(self._actor)
        msg = f"{self._spec.id} ended: {self._reason}"
        self._replies.end_all(lambda: WorkerDiedError(msg))

    async def _outcome(self, call: Call, number: int, ref: Any, target: Target) -> Any:
        reply = self._replies.to(ref)
        try:
            return await reply.future
        except asyncio.CancelledError:
            if not (reply.arrived or self._ended):
                await self._cancel(call, number, reply)
            raise
        except Exception as error:
            raise self._read(error, target.operation_name) from error

    async def _answered(self, ref: Any, operation: str) -> Any:
        try:
            answer: Answer = await self._replies.to(ref).future
        except Exception as error:
            raise self._read(error, operation) from error
        return self._open(answer, None)

    async def _cancel(self, call: Call, number: int, reply: Reply) -> None:
        # Ray's own ``cancel`` takes two seconds where it comes right after the call, throws away
        # what the method returns all the same, and does not say whether it goes on.
        lingering = call.lingering = call.lingering or Lingering()
        lingering.running += 1
        reply.when_arrived(lingering.ended)
        told = self._replies.to(self._actor.cancel.remote(number))
        options = self._spec.options
        end = self._end if options.on_cancel == "kill" else None
        await Cancelling(reply, told, end, options.stop_timeout).wait()

    def _open(self, result: Any, call: Call | None) -> Any:
        if type(result) is not Answer:
            return result
        failure = None if result.ok else result.value.opened(f"{self._spec.id}, a Ray actor")
        if call is not None and result.verbs:
            try:
                play(call, result.verbs)
            except PolicyError:
                # What the method itself has failed with says more.
                if failure is None:
                    raise
        if failure is not None:
            raise failure
        return result.value

    def _read(self, error: Exception, operation: str) -> BaseException:
        self._look_at(error)
        return read_error(error, self._spec.id, operation)

    def _look_at(self, error: BaseException | None) -> None:
        if error is not None and isinstance(error, ENDS):
            self._end(why_it_ended(error))

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._reason = reason
            self._died(reason)

    def _work(self, target: Target) -> str | bytes:
        work = self._sent.get(target)
        if work is None:
            work = dumps(target) if target.name is None else target.name
            if len(self._sent) >= _MOST_KEPT:
                self._sent.clear()
            self._sent[target] = work
        return work


def _carried(call: Call) -> list[Any] | None:
    carrier = carrier_of(call)
    # Ray sends a list of simple values for a tenth of what an object costs.
    return None if carrier is None else [*carrier]
