"""How a concurrency stage waits."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import Any, Self

from penstock import clock
from penstock.call import Call
from penstock.errors import ConcurrencyLimitedError
from penstock.events import CallRejected, WaitEnded
from penstock.parking import Home, park_until_granted, wake
from penstock.stage import Handler
from penstock.stages.concurrency.machine import Admission, ConcurrencyMachine
from penstock.stages.concurrency.options import ConcurrencyOptions

__all__ = ["Concurrency"]


class Concurrency:
    """Let at most ``limit`` calls be under way; the others wait in line, or are refused."""

    __slots__ = ("_machine", "home", "options")

    name = "concurrency"
    admits = True

    def __init__(self, options: ConcurrencyOptions) -> None:
        self.options = options
        self._machine = ConcurrencyMachine(options.limit, options.max_queue)
        self.home = Home()

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Hold a permit while the rest of the pipeline runs."""
        home = self.home
        if get_ident() != home.thread or home.is_closed():
            self._move_in()
        machine = self._machine
        # ``admit`` and ``release`` where nobody waits, written out: calling them costs more than
        # all the rest of this method.
        if machine.in_flight < machine.limit:
            machine.in_flight += 1
        else:
            await self._wait_for_permit(call)
        generation = machine.generation
        try:
            return await call_next(call)
        finally:
            if call.lingering is not None:
                call.lingering.when_idle(partial(self._release, generation))
            elif machine.queued or generation != machine.generation:
                self._release(generation)
            else:
                machine.in_flight -= 1

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return limit, calls under way and calls waiting."""
        machine = self._machine
        return {
            "stage": self.name,
            "limit": machine.limit,
            "in_flight": machine.in_flight,
            "waiting": machine.queued,
        }

    def resize(self, limit: int) -> None:
        """Change the limit while calls are under way; from 1.

        Raises:
            ConfigError: ``limit`` is not a whole number of at least 1.
        """
        checked = ConcurrencyOptions(limit=limit).limit
        for waiter in self._machine.resize(checked):
            wake(waiter)

    async def _wait_for_permit(self, call: Call) -> None:
        await self._wait_in_line(call)
        gate = call.context.gate
        while gate is not None and gate.is_shut_for(call):
            # Its turn has come and nobody can serve it: others may have use for the permit.
            self._release(self._machine.generation)
            await gate.wait_until_open(call)
            await self._wait_in_line(call)

    async def _wait_in_line(self, call: Call) -> None:
        self._move_in()
        machine = self._machine
        match machine.admit():
            case Admission.ADMITTED:
                return
            case Admission.QUEUE_FULL:
                raise self._refuse(call, f"{machine.queued} calls wait already")
            case Admission.MUST_WAIT:
                pass
        began = clock.now()
        if call.deadline is not None and call.deadline <= began:
            raise self._refuse(call, "no time is left to wait")
        patience = self.options.max_wait
        waiter = machine.park(call.priority)
        generation = machine.generation
        try:
            await park_until_granted(waiter, patience)
        except BaseException:
            if not machine.abandon(waiter):
                self._release(generation)
            raise
        finally:
            if call.notify is not None:
                call.emit(WaitEnded, stage=self.name, seconds=clock.now() - began)
        # A grant in the very step in which patience ran out still counts: the permit is ours.
        if machine.abandon(waiter):
            raise self._refuse(call, f"none came free within {patience:g} s")

    def _release(self, generation: int) -> None:
        waiter = self._machine.release(generation)
        if waiter is not None:
            wake(waiter)

    def _move_in(self) -> None:
        if self.home.move(self.name):
            self._machine.forfeit()

    def _refuse(self, call: Call, why: str) -> ConcurrencyLimitedError:
        call.emit(CallRejected, stage=self.name, error_type="ConcurrencyLimitedError")
        limit = self._machine.limit
        return ConcurrencyLimitedError(
            f"policy '{call.context.policy}': all {limit} permits are taken and {why}"
        )
