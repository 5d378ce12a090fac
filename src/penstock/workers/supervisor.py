"""Starts workers, starts them anew when they die or are asked to, and parks those that cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock import clock
from penstock.pools.administration import Administered
from penstock.workers.crew import Crew
from penstock.workers.engine import Engine, WorkerSpec
from penstock.workers.slot import Slot, SlotState

__all__ = ["Supervisor"]

DOWN = "down"
"""Why a worker is away while it starts, restarts or stops."""


class Supervisor:
    """The life cycle of the workers of one pool.

    A worker that is not up is *away* in the pool of resources: whoever waits for it waits on. One
    that was started too often is *disabled*: if all are, whoever waits is told so.

    Args:
        crew: How workers are made, and what they report to.
        workers: The workers as resources.
    """

    def __init__(self, crew: Crew, workers: Administered) -> None:
        self._crew = crew
        self._options = crew.options
        self._workers = workers
        self._first_up: asyncio.Event = asyncio.Event()
        self.last_failure: BaseException | None = None

    def bring_up(self, slot: Slot, delay: float = 0.0) -> None:
        """Start a worker that was just added, after ``delay`` seconds."""
        slot.task = asyncio.create_task(self._start(slot, delay), name=f"{slot.id} starts")

    def restart(self, slot: Slot, reason: str) -> None:
        """Start a worker anew when the calls that it serves have ended."""
        if slot.state is not SlotState.UP:
            return
        self._take_out(slot, SlotState.RESTARTING, reason)
        slot.task = asyncio.create_task(self._restart(slot, reason), name=f"{slot.id} restarts")

    def revive(self, slot: Slot) -> None:
        """Start a parked worker."""
        slot.restarts.forget()
        self._workers.withdraw(slot.id, DOWN)
        self._workers.enable(slot.id)
        self._crew.changed(slot, SlotState.STARTING, "revived")
        self.bring_up(slot)

    def died(self, slot: Slot, engine: Engine, reason: str) -> None:
        """Replace a worker that has died by itself, or does not answer."""
        if slot.engine is not engine or slot.state not in (SlotState.UP, SlotState.RESTARTING):
            return
        if slot.task is not None:
            slot.task.cancel()
        slot.engine = None
        engine.kill()
        self._take_out(slot, SlotState.RESTARTING, reason)
        if self._options.mode == "asyncio":
            # Elsewhere the engine has ended them; in its own loop the pool has to.
            self._workers.displace(slot.id, reason)
        slot.task = asyncio.create_task(self._replace(slot), name=f"{slot.id} is replaced")

    async def stop(self, slot: Slot, reason: str) -> None:
        """Stop a worker for good, when the calls that it serves have ended."""
        task, slot.task = slot.task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._take_out(slot, SlotState.STOPPING, reason)
        await slot.wait_until_idle()
        await self._stop_engine(slot)
        self._crew.changed(slot, SlotState.STOPPED, reason)

    def kill(self, slot: Slot) -> None:
        """Stop a worker at once."""
        if slot.task is not None:
            slot.task.cancel()
            slot.task = None
        engine, slot.engine = slot.engine, None
        if engine is not None:
            engine.kill()
        self._crew.changed(slot, SlotState.STOPPED, "killed")

    async def wait_until_first_is_up(self, slots: Callable[[], list[Slot]]) -> None:
        """Wait until a worker is up.

        Raises:
            Exception: What the last one failed with, when all are parked.
        """
        while True:
            self._first_up.clear()
            states = {slot.state for slot in slots()}
            if SlotState.UP in states:
                return
            if states == {SlotState.PARKED} and self.last_failure is not None:
                raise self.last_failure
            await self._first_up.wait()

    async def _start(self, slot: Slot, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
        while not await self._try_start(slot):
            again = slot.restarts.next_delay(clock.now())
            if again is None:
                self._park(slot)
                return
            reason = type(self.last_failure).__name__
            self._crew.changed(slot, SlotState.RESTARTING, reason, again)
            await asyncio.sleep(again)
            self._crew.changed(slot, SlotState.STARTING, "restart")
        slot.renew()
        self._crew.changed(slot, SlotState.UP, "started")
        slot.task = None
        self._workers.restore(slot.id, DOWN)
        self._first_up.set()
        self._crew.somebody_is_up()

    async def _try_start(self, slot: Slot) -> bool:
        engine = None
        try:
            engine = self._make_engine(slot)
            async with asyncio.timeout(self._options.start_timeout):
                await engine.start()
        except asyncio.CancelledError:
            if engine is not None:
                engine.kill()
            raise
        # A worker that ends the program while it starts ends itself.
        except (Exception, SystemExit) as failure:  # noqa: BLE001 - told, and tried again
            if engine is not None:
                engine.kill()
            self.last_failure = failure
            self._crew.failed_to_start(slot, failure)
            return False
        slot.engine = engine
        slot.idle_since = clock.now()
        return True

    def _make_engine(self, slot: Slot) -> Engine:
        made: list[Engine] = []
        spec: WorkerSpec = self._crew.spec(slot.index, slot.id)
        made.append(self._crew.mode(spec, lambda reason: self.died(slot, made[0], reason)))
        return made[0]

    async def _restart(self, slot: Slot, reason: str) -> None:
        await slot.wait_until_idle()
        await self._stop_engine(slot)
        if reason != "restart_every":
            await self._pause_before_restart(slot)
        if slot.state is SlotState.RESTARTING:
            self._crew.changed(slot, SlotState.STARTING, reason)
            await self._start(slot, 0.0)

    async def _replace(self, slot: Slot) -> None:
        await self._pause_before_restart(slot)
        if slot.state is SlotState.RESTARTING:
            self._crew.changed(slot, SlotState.STARTING, "restart")
            await self._start(slot, 0.0)

    async def _pause_before_restart(self, slot: Slot) -> None:
        delay = slot.restarts.next_delay(clock.now())
        if delay is None:
            self._park(slot)
        elif delay:
            await asyncio.sleep(delay)

    async def _stop_engine(self, slot: Slot) -> None:
        engine, slot.engine = slot.engine, None
        if engine is None:
            return
        try:
            async with asyncio.timeout(self._options.stop_timeout):
                await engine.stop()
        except asyncio.CancelledError:
            engine.kill()
            raise
        except (Exception, SystemExit) as failure:  # noqa: BLE001 - told; it is stopped in any case
            engine.kill()
            self._crew.failed_to_stop(slot, failure)

    def _park(self, slot: Slot) -> None:
        self._crew.changed(slot, SlotState.PARKED, "too many restarts")
        slot.task = None
        self._workers.restore(slot.id, DOWN)
        self._workers.disable(slot.id, "parked")
        self._first_up.set()
        self._crew.somebody_is_up()

    def _take_out(self, slot: Slot, state: SlotState, reason: str) -> None:
        self._crew.changed(slot, state, reason)
        self._workers.withdraw(slot.id, DOWN)
