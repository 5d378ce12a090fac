"""How a fallback stage answers in place of a failure."""

from __future__ import annotations

import logging
from typing import Any, Self

from penstock.call import Call, RefusedResult
from penstock.events import FallbackUsed
from penstock.matching import answer_of
from penstock.stage import Handler
from penstock.stages.fallback.machine import FallbackMachine
from penstock.stages.fallback.options import FallbackOptions

__all__ = ["Fallback"]

_log = logging.getLogger("penstock")


class Fallback:
    """Return a value, a function's result or another policy's result when the call has failed."""

    __slots__ = ("_answered", "_machine", "options")

    name = "fallback"

    def __init__(self, options: FallbackOptions) -> None:
        self.options = options
        self._machine = FallbackMachine(options.fallback_on)
        self._answered = 0

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the rest of the pipeline; answer for it if it fails."""
        try:
            return await call_next(call)
        except Exception as failure:
            verdict = call.judge(failure)
            # A committed stream has handed items on: nothing can take their place any more.
            if call.committed or not await self._stands_in(call, failure):
                raise
            self._answered += 1
            if call.context.notify is not None:
                call.emit(FallbackUsed, verdict=verdict.kind, error_type=type(failure).__name__)
            call.forget_verdict()
            return await self._answer(call, failure)

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return how many calls were answered here."""
        return {"stage": self.name, "answered": self._answered}

    async def _stands_in(self, call: Call, failure: Exception) -> bool:
        try:
            return await self._machine.answers(failure, call.judge(failure))
        except Exception:
            _log.exception("policy '%s': fallback_on raised; not answered", call.context.policy)
            return False

    async def _answer(self, call: Call, failure: Exception) -> Any:
        if isinstance(failure, RefusedResult) and call.context.discard is not None:
            await answer_of(call.context.discard(failure.result))
        options = self.options
        if options.function is not None:
            return await answer_of(options.function(failure, *call.args, **call.kwargs))
        if options.policy is not None:
            return await options.policy.call(call.fn, *call.args, **call.kwargs)
        return options.value
