"""How a fallback stage answers in place of a failure."""

from __future__ import annotations

import logging
from typing import Any, Self

from penstock.call import Call, RefusedResult
from penstock.errors import InvalidResultError
from penstock.events import FallbackUsed, HookFailed
from penstock.hooks import timed
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

    @property
    def repeats(self) -> bool:
        """True when the operation may be called more than once."""
        return self.options.policy is not None

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
            if call.notify is not None:
                call.emit(FallbackUsed, verdict=verdict.kind, error_type=type(failure).__name__)
            call.forget_verdict()
            return await timed(call, self.name, self._answer(call, failure))

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return how many calls were answered here."""
        return {"stage": self.name, "answered": self._answered}

    async def _stands_in(self, call: Call, failure: Exception) -> bool:
        try:
            asked = self._machine.answers(failure, call.judge(failure))
            return await timed(call, "hook", asked)
        except Exception:  # noqa: BLE001 - the failure it was asked about must not be hidden
            _log.exception("policy '%s': fallback_on raised; not answered", call.context.policy)
            return False

    async def _answer(self, call: Call, failure: Exception) -> Any:
        shown, options = failure, self.options
        if isinstance(failure, RefusedResult):
            await self._discard(call, failure.result)
            shown = InvalidResultError("the result was refused", results=(failure.result,))
        if options.function is not None:
            return await answer_of(options.function(shown, *call.args, **call.kwargs))
        if options.policy is not None:
            return await options.policy.call(call.fn, *call.args, **call.kwargs)
        return options.value

    async def _discard(self, call: Call, result: object) -> None:
        discard = call.context.discard
        if discard is None:
            return
        try:
            await answer_of(discard(result))
        except Exception as error:  # noqa: BLE001 - the answer must not be lost
            _log.exception("policy '%s': discard raised", call.context.policy)
            call.emit(HookFailed, hook="discard", error_type=type(error).__name__)
