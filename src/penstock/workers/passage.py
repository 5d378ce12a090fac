"""The way of a worker into the place where it lives, and out of it, each in its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.errors import WorkerDiedError
from penstock.workers.crew import Crew
from penstock.workers.engine import Engine
from penstock.workers.slot import Slot

__all__ = ["Passage"]


class Passage:
    """Makes, starts, stops and kills engines, whatever the worker's own methods do meanwhile.

    They may raise, hang, cancel themselves or try to end the program.

    Args:
        crew: How workers are made, and who is told.
        died: Told why when an engine ends by itself.

    Attributes:
        last_failure: What the latest start that failed has failed with.
    """

    def __init__(self, crew: Crew, died: Callable[[Slot, Engine, str], None]) -> None:
        self._crew = crew
        self._options = crew.options
        self._died = died
        self.last_failure: BaseException | None = None

    def make(self, slot: Slot) -> Engine | None:
        """Return a new engine for a worker; None where it cannot be made at all."""
        made: list[Engine] = []
        try:
            spec = self._crew.spec(slot.index, slot.id)
            made.append(self._crew.mode(spec, lambda reason: self._died(slot, made[0], reason)))
        except Exception as failure:  # noqa: BLE001 - told; another time it would be the same
            self._failed_to_start(slot, failure)
            return None
        slot.passing = made[0]
        return made[0]

    async def start(self, slot: Slot, engine: Engine) -> bool:
        """Run a worker's ``start``; False where it failed, or nobody waits for it any more."""
        own, limit = asyncio.current_task(), self._options.start_timeout
        time_limit = asyncio.timeout(limit)
        # To wait for a machine with room is not to start: nothing is wrong with the worker.
        place = getattr(engine, "place", None)
        try:
            if place is not None:
                await place()
            async with time_limit:
                await engine.start()
            if slot.passing is engine and slot.task is own:
                return True
            failure: BaseException = WorkerDiedError(f"{slot.id} died while it started")
        except asyncio.CancelledError as cancel:
            if own is None or own.cancelling():
                self.give_up(slot, engine)
                raise
            failure = WorkerDiedError(f"{slot.id} was cancelled by its own start")
            failure.__cause__ = cancel
        except SystemExit as leaving:
            failure = WorkerDiedError(f"{slot.id} was ended by sys.exit while it started")
            failure.__cause__ = leaving
        except Exception as raised:  # noqa: BLE001 - told, and tried again
            failure = raised
            if time_limit.expired():
                failure = TimeoutError(f"{slot.id} did not start within {limit:g} s")
        self.give_up(slot, engine)
        if slot.task is own:
            self._failed_to_start(slot, failure)
        return False

    async def stop(self, slot: Slot) -> None:
        """Run a worker's ``stop``, and leave its engine in any case."""
        engine, slot.engine = slot.engine, None
        if engine is None:
            return
        slot.passing = engine
        own, limit = asyncio.current_task(), self._options.stop_timeout
        try:
            async with asyncio.timeout(limit):
                await engine.stop()
        except asyncio.CancelledError as cancel:
            self.kill(slot, engine)
            if own is None or own.cancelling():
                raise
            self._crew.failed_to_stop(slot, cancel)
        except (Exception, SystemExit) as failure:  # noqa: BLE001 - told; it is stopped in any case
            self.kill(slot, engine)
            self._crew.failed_to_stop(slot, failure)
        finally:
            if slot.passing is engine:
                slot.passing = None

    def give_up(self, slot: Slot, engine: Engine) -> None:
        """Leave an engine that starts, or stops."""
        if slot.passing is engine:
            slot.passing = None
        self.kill(slot, engine)

    def kill(self, slot: Slot, engine: Engine) -> None:
        """Leave an engine at once."""
        try:
            engine.kill()
        except Exception as failure:  # noqa: BLE001 - told; nothing more can be done
            self._crew.failed_to_stop(slot, failure)

    def _failed_to_start(self, slot: Slot, failure: BaseException) -> None:
        self.last_failure = failure
        self._crew.failed_to_start(slot, failure)
