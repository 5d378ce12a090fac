"""How a budget stage counts calls, and is asked by whatever adds load inside it."""

from __future__ import annotations

from threading import get_ident
from typing import Any, Self

from penstock import clock
from penstock.call import Call
from penstock.errors import BudgetExhaustedError
from penstock.parking import Home
from penstock.stage import Handler
from penstock.stages.budget.machine import BudgetMachine
from penstock.stages.budget.options import BudgetOptions

__all__ = ["Budget"]


class Budget:
    """Bound what retries and hedges add, as a share of the calls made.

    One instance may stand in several policies; they share what there is. It has to stand outside
    the stages that ask it.
    """

    __slots__ = ("_machine", "home", "options")

    name = "budget"

    def __init__(self, options: BudgetOptions) -> None:
        self.options = options
        self._machine = BudgetMachine(options.ratio, options.min_per_second, options.window)
        self.home = Home()

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Count the call and let the stages further in pay here."""
        if get_ident() != self.home.thread:
            self.home.move(self.name)
        self._machine.deposit(clock.now())
        outer = call.budget
        call.budget = self
        try:
            return await call_next(call)
        finally:
            call.budget = outer

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return the calls and added attempts in the window, and how many more may be added."""
        machine = self._machine
        left = max(0.0, machine.balance(clock.now()))
        return {
            "stage": self.name,
            "calls": machine.calls,
            "spent": machine.spent,
            "left": round(left, 6),
        }

    def spend_nowait(self) -> bool:
        """Pay for one added attempt; False where the budget is spent."""
        return self._machine.spend(clock.now())

    def spend(self) -> None:
        """Pay for one attempt that your own code adds.

        Raises:
            BudgetExhaustedError: The budget is spent; ``retry_after`` says when some of it is back.
        """
        now = clock.now()
        if self._machine.spend(now):
            return
        options = self.options
        raise BudgetExhaustedError(
            f"the budget of {options.ratio:.0%} of the calls plus {options.min_per_second:g} per "
            "second is spent; do not add load now",
            retry_after=self._machine.seconds_until_room(now),
        )

    def refund(self) -> None:
        """Take back the latest payment, for an attempt that was not made after all."""
        self._machine.refund()
