"""How a rotation gives each attempt a resource."""

from __future__ import annotations

import asyncio
from asyncio import current_task
from dataclasses import replace
from threading import get_ident
from typing import Any, Self

from penstock import clock
from penstock.call import Call, enter_call, leave_call
from penstock.errors import DisplacedError
from penstock.health import Health
from penstock.pools.administration import Administered
from penstock.pools.lease import Lease
from penstock.stage import Handler
from penstock.stages.rotation.machine import RotationMachine
from penstock.stages.rotation.options import FIRST, RotationOptions
from penstock.verdict import Verdict, VerdictKind

__all__ = ["Rotation"]

_TIMED_OUT = Verdict(VerdictKind.TIMEOUT, reason="timeout")


class Rotation:
    """Give each attempt a resource of a pool, and tell the pool what came of it."""

    __slots__ = ("_machine", "_max_wait", "_tells_apart", "home", "options", "pool", "state")

    name = "rotation"
    # A displaced attempt is run again.
    repeats = True

    def __init__(self, options: RotationOptions) -> None:
        self.options = options
        pool = options.resources
        self.pool: Administered = (
            pool if isinstance(pool, Administered) else Administered(pool, options)
        )
        self.home = self.pool.home
        self.state = self.pool.machine
        self._max_wait = options.max_wait
        own = self.pool.options
        self._tells_apart = own.tells_calls_apart
        self._check_origins()
        rates = own.pick == "p2c_ewma" or not isinstance(own.pick, str)
        penalty = own.failure_penalty if rates else None
        self._machine = RotationMachine(self.state, own.max_cooldown, penalty)

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the operation on a resource that is ready."""
        pool, home = self.pool, self.home
        # With no task of its own loop the home is another one, which may have stopped unclosed.
        task = current_task(home.loop) if get_ident() == home.thread else None
        if task is None:
            task = self._move_in()
        lane = pool.lane_of(call) if self._tells_apart else self.state.main
        lease = self.state.take(lane, call.context.overrides.key, clock.now(), call.resource)
        if self.state.news:
            pool.deliver()
        if lease is None:
            lease = await pool.wait_for_lease(call, self._max_wait)
        lease.begin(call, task)
        token = enter_call(call)
        try:
            result = await call_next(call)
        except BaseException as failure:
            if self._is_displaced(lease, failure):
                raise self._displaced(call, lease) from None
            self.fail(call, lease, failure)
            raise
        else:
            self._machine.succeed(lease, clock.now())
            return result
        finally:
            leave_call(token)
            call.lease = None
            if lease.is_cancelled:
                lease.take_back_cancel()
            if call.lingering is None:
                self.state.give_back(lease, clock.now())
            else:
                pool.give_back_after(call.lingering, lease)
            if self.state.news:
                pool.deliver()

    def fresh(self) -> Self:
        """Return a stage of the same options with new state, over a pool of its own."""
        if self.pool is not self.options.resources:
            return type(self)(self.options)
        return type(self)(replace(self.options, resources=self.pool.fresh()))

    def snapshot(self) -> dict[str, Any]:
        """Return the pool's state: every resource by its id, and how many calls wait."""
        return {"stage": self.name, **self.pool.snapshot()}

    def is_shut_for(self, call: Call) -> bool:
        """Return True when nobody can serve this call before the end of a rest, if ever."""
        return self.state.is_shut and self.pool.is_shut_for(call)

    def health_for(self, call: Call) -> Health:
        """Return whether and when this call can be served."""
        return self.pool.health_for(call)

    async def wait_until_open(self, call: Call, max_wait: float | None = None) -> None:
        """Wait until somebody can serve the call, holding nothing.

        Args:
            call: Who waits.
            max_wait: Most seconds, from 0; None takes the stage's own.

        Raises:
            NoResourceError: Nobody can before its time is up.
        """
        await self.pool.wait_until_open(call, self._max_wait if max_wait is None else max_wait)

    def succeed(self, lease: Lease) -> None:
        """Record that a lease's use went well."""
        self._machine.succeed(lease, clock.now())

    def fail(self, call: Call, lease: Lease, failure: BaseException) -> None:
        """Record what a lease's use has failed with."""
        # The operation is cut off by a cancel; that a timeout sent it is known further out.
        cut_off = call.expiring and isinstance(failure, asyncio.CancelledError)
        verdict = _TIMED_OUT if cut_off else call.judge(failure)
        self._machine.fail(lease, failure, verdict, clock.now())

    def _check_origins(self) -> None:
        if self.options.inject in (None, FIRST) or self.pool.options.url is not None:
            return
        for member in self.state.members.values():
            if member.resource.origins is not None:
                allowed = f"'{FIRST}' or None, or used with 'url', for resources with 'origins'"
                raise self.options.refuse("inject", self.options.inject, allowed)

    def _move_in(self) -> asyncio.Task[Any] | None:
        self.pool.move_in()
        return current_task()

    def _is_displaced(self, lease: Lease, failure: BaseException) -> bool:
        if not (lease.is_cancelled and isinstance(failure, asyncio.CancelledError)):
            return False
        return lease.take_back_cancel()

    def _displaced(self, call: Call, lease: Lease) -> DisplacedError:
        lease.candidate.member.counts.displaced += 1
        why = f"was lost to an older call's failure ({lease.displaced})"
        return DisplacedError(f"resource {lease.resource.id!r} {why}", call=call)
