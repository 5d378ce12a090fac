"""Asks workers how they are, all of them side by side, once in a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from penstock.operation import returns_awaitable
from penstock.workers.crew import Crew
from penstock.workers.engine import Engine
from penstock.workers.slot import Slot, SlotState
from penstock.workers.supervisor import Supervisor
from penstock.workers.worker import Worker

__all__ = ["HealthWatch"]


class HealthWatch:
    """One timer for a pool, and one round of questions each time; none where nobody can answer.

    Args:
        crew: How workers are made.
        supervisor: Replaces who is not well.
        slots: All workers, as they are whenever this is iterated over.
    """

    def __init__(self, crew: Crew, supervisor: Supervisor, slots: Iterable[Slot]) -> None:
        self._options = crew.options
        self._supervisor = supervisor
        self._slots = slots
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._is_closed = False
        kind = crew.makes.kind
        ask = getattr(kind, "healthy", None)
        # A class that is not known may have one: its engine says yes where it has none.
        has_answer = kind is None or (callable(ask) and ask is not Worker.healthy)
        # Ray does not notice an actor that hangs: there the answer of the place alone is worth it.
        self._is_asked = has_answer or self._options.mode == "ray"
        # A thread serves one after the other. One that is busy is silent, and no sign of trouble.
        answers_meanwhile = callable(ask) and returns_awaitable(ask)
        mode = self._options.mode
        self._busy_is_well = mode == "thread" or (mode == "asyncio" and not answers_meanwhile)

    def open(self) -> None:
        """Begin to ask."""
        if self._is_asked and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._options.health_interval, self._begin_round)

    def close(self) -> None:
        """Ask no more; no task and no timer is left."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._round is not None:
            self._round.cancel()
            self._round = None

    def _begin_round(self) -> None:
        self._timer = None
        self._round = asyncio.create_task(self._go_round(), name="workers are asked how they are")

    async def _go_round(self) -> None:
        asked = [slot for slot in self._slots if slot.state is SlotState.UP]
        await asyncio.gather(*(self._ask(slot, slot.engine) for slot in asked))
        self._round = None
        self.open()

    async def _ask(self, slot: Slot, engine: Engine | None) -> None:
        assert engine is not None  # noqa: S101 - a worker that is up has one
        limit = self._options.health_timeout
        time_limit = asyncio.timeout(limit)
        try:
            async with time_limit:
                is_well = await engine.healthy()
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is None or own.cancelling():
                raise
            why = "healthy raised CancelledError"
        except (Exception, SystemExit) as failure:  # noqa: BLE001 - whatever it is, it is not well
            if time_limit.expired():
                if slot.in_flight and self._busy_is_well:
                    return
                why = f"healthy took more than {limit:g} s"
            else:
                why = f"healthy raised {type(failure).__name__}"
        else:
            if is_well:
                return
            why = "unhealthy"
        self._supervisor.unhealthy(slot, engine, why)
