"""The frames of a call that nobody but its spans is told about: no event is built for it."""

from __future__ import annotations

from typing import Any

from penstock import clock
from penstock.call import Call
from penstock.events import WaitEnded
from penstock.observe import Frames, kind_of, outcome_of, type_name, waited_in_line
from penstock.stage import Handler
from penstock.verdict import VerdictKind

__all__ = ["SPANNING"]


def _span_call(call_next: Handler) -> Handler:
    async def spanned(call: Call) -> Any:
        spans: Any = call.notify
        waited = waited_in_line(call)
        if waited:
            call.emit(WaitEnded, stage="queue", seconds=waited)
        error: BaseException | None = None
        try:
            return await call_next(call)
        except BaseException as caught:
            error = caught
            raise
        finally:
            spans.end(clock.now(), outcome_of(error), type_name(error), call.starts)
            del error

    return spanned


def _span_attempt(call_next: Handler) -> Handler:
    async def spanned(call: Call) -> Any:
        spans: Any = call.notify
        call.starts += 1
        resource = None if call.resource is None else call.resource.id
        spans.start_attempt(clock.now(), call.attempt, resource)
        kind, error_type = VerdictKind.OK, None
        try:
            return await call_next(call)
        except BaseException as error:
            kind, error_type = kind_of(call, error), type_name(error)
            raise
        finally:
            spans.end_attempt(clock.now(), kind, error_type)

    return spanned


SPANNING = Frames(_span_call, _span_attempt)
