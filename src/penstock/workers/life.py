"""What a worker goes through: each way from one state to another, in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from penstock import clock
from penstock.errors import PoolStoppedError
from penstock.workers.crew import Crew
from penstock.workers.engine import CALL_CANCELLED, Engine
from penstock.workers.passage import Passage
from penstock.workers.resources import Workers
from penstock.workers.slot import RESTART_EVERY, Slot, SlotState

__all__ = ["ASKED_FOR", "DOWN", "ON_THE_WAY", "Life"]

DOWN = "down"
"""Why a worker is away while it starts, restarts or stops."""

ASKED_FOR = "asked for"

# Restarts that are no sign of trouble: they wait for nothing and park nobody.
_PLANNED = (RESTART_EVERY, ASKED_FOR, CALL_CANCELLED)

ON_THE_WAY = (SlotState.STARTING, SlotState.RESTARTING)


class Life:
    """Starts, restarts, stops and parks workers.

    Whatever is decided about a worker begins a task, which overtakes the one before it: that one
    is cancelled, and if it does not notice, it changes nothing any more.

    Args:
        crew: How workers are made, and what they report to.
        workers: The workers as resources.
    """

    def __init__(self, crew: Crew, workers: Workers) -> None:
        self._crew = crew
        self._options = crew.options
        self._workers = workers
        self._watching: list[asyncio.Future[None]] = []
        self._passage = Passage(crew, self.died)

    def died(self, slot: Slot, engine: Engine, reason: str) -> None:
        """Replace a worker that has died by itself."""
        raise NotImplementedError

    async def wait_for_news(self) -> None:
        """Wait until a worker is up, was parked or has stopped."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching.append(waiting)
        await waiting

    def why_parked(self) -> BaseException:
        """Return what the latest start that failed has failed with."""
        return self._passage.last_failure or PoolStoppedError(
            "the workers were stopped before one was up"
        )

    def _begin(self, slot: Slot, work: Coroutine[Any, Any, None], what: str) -> None:
        old = slot.task
        slot.task = asyncio.create_task(work, name=f"{slot.id} {what}")
        if old is not None and old is not asyncio.current_task():
            old.cancel()

    async def _start_after(self, slot: Slot, delay: float) -> None:
        if delay > 0:
            await asyncio.sleep(delay)
        await self._start(slot)

    async def _start(self, slot: Slot) -> None:
        own = asyncio.current_task()
        while (engine := self._passage.make(slot)) is not None:
            if await self._passage.start(slot, engine):
                self._come_up(slot, engine)
                return
            if slot.task is not own:
                return
            delay = slot.restarts.next_delay(clock.now())
            if delay is None:
                break
            reason = type(self._passage.last_failure).__name__
            self._crew.changed(slot, SlotState.RESTARTING, reason, delay)
            await asyncio.sleep(delay)
            self._crew.changed(slot, SlotState.STARTING, "restart")
        self._park(slot)

    def _come_up(self, slot: Slot, engine: Engine) -> None:
        slot.engine, slot.passing, slot.task = engine, None, None
        slot.renew(clock.now())
        self._crew.changed(slot, SlotState.UP, "started")
        self._workers.restore(slot.id, DOWN)
        self._tell()
        self._crew.somebody_is_up()

    async def _restart(self, slot: Slot, reason: str, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience):
                await slot.wait_until_idle()
        except TimeoutError:
            # What is displaced and does not go is left behind with what it holds.
            pass
        await self._passage.stop(slot)
        await self._start_again(slot, reason)

    async def _start_again(self, slot: Slot, reason: str) -> None:
        if slot.task is not asyncio.current_task():
            return
        is_planned = reason in _PLANNED
        delay = 0.0 if is_planned else slot.restarts.next_delay(clock.now())
        if delay is None:
            self._park(slot)
            return
        if delay:
            self._crew.changed(slot, SlotState.RESTARTING, reason, delay)
            await asyncio.sleep(delay)
        self._crew.changed(slot, SlotState.STARTING, reason)
        await self._start(slot)

    async def _stop(self, slot: Slot, old: asyncio.Task[None] | None, reason: str) -> None:
        limit = self._options.stop_timeout
        try:
            if old is not None:
                # What a start cleans up when it is cancelled may hang as well.
                await asyncio.wait([old], timeout=limit)
            await slot.wait_until_idle()
            await self._passage.stop(slot)
        except asyncio.CancelledError:
            if old is not None:
                old.cancel()
            raise
        if slot.passing is not None:
            self._passage.give_up(slot, slot.passing)
        if slot.task is asyncio.current_task():
            slot.task = None
            self._crew.changed(slot, SlotState.STOPPED, reason)
            self._tell()

    def _park(self, slot: Slot) -> None:
        slot.task = None
        self._crew.changed(slot, SlotState.PARKED, "too many restarts")
        # In this order: restored first, it would be ready for a moment.
        self._workers.disable(slot.id, "parked")
        self._workers.restore(slot.id, DOWN)
        self._tell()
        self._crew.somebody_is_up()

    def _lose(self, slot: Slot, reason: str) -> None:
        self._crew.changed(slot, SlotState.RESTARTING, reason)
        self._take_out(slot, reason)
        if self._options.mode == "asyncio":
            # Elsewhere the engine has ended them; in its own loop the pool has to.
            self._workers.displace(slot.id, reason)

    def _take_out(self, slot: Slot, reason: str) -> None:
        self._workers.withdraw(slot.id, DOWN)
        self._workers.recall(slot.id, reason)

    def _tell(self) -> None:
        watching, self._watching = self._watching, []
        for waiting in watching:
            if not waiting.done():
                waiting.set_result(None)
