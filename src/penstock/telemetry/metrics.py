"""Events as measurements: durations, retries, rejections, calls under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.events import (
    AttemptEnded,
    CallEnded,
    CallRejected,
    CallStarted,
    Event,
    JobDropped,
    RetryScheduled,
    WaitEnded,
)
from penstock.telemetry import error_types
from penstock.telemetry import instruments as data
from penstock.telemetry.bounds import Bounds
from penstock.telemetry.names import ERROR_TYPE, OPERATION, OUTCOME, POLICY, RESOURCE, VERDICT
from penstock.telemetry.settings import settings

if TYPE_CHECKING:
    from penstock.telemetry.recorder import Recorder

__all__ = ["Metrics"]

Facts = dict[str, Any]


class Metrics:
    """A sink that measures every call; it keeps nothing of any of them.

    Args:
        meter: Makes the instruments.
        bounds: What is told apart.
    """

    __slots__ = (
        "_active",
        "_attempts",
        "_bounds",
        "_by_kind",
        "_calls",
        "_dropped",
        "_rejections",
        "_retries",
        "_waits",
    )

    def __init__(self, meter: Any, bounds: Bounds) -> None:
        self._bounds = bounds
        self._calls = data.CALL_DURATION.made_by(meter)
        self._attempts = data.ATTEMPT_DURATION.made_by(meter)
        self._waits = data.WAIT_DURATION.made_by(meter)
        self._retries = data.RETRIES.made_by(meter)
        self._rejections = data.REJECTIONS.made_by(meter)
        self._active = data.ACTIVE_CALLS.made_by(meter)
        self._dropped = data.DROPPED_JOBS.made_by(meter)
        # By the very type of the event; each takes that one.
        self._by_kind: dict[type[Event], Callable[[Any, Recorder], None]] = {
            CallStarted: self._begin_call,
            CallEnded: self._end_call,
            AttemptEnded: self._end_attempt,
            WaitEnded: self._end_wait,
            RetryScheduled: self._retry,
            CallRejected: self._reject,
        }

    def __call__(self, event: Event, recorder: Recorder | None) -> None:
        """Measure what the event tells, if anything."""
        if type(event) is JobDropped:
            self._drop(event)
            return
        measure = self._by_kind.get(type(event))
        # What else happened outside of any call is a change of state, and seen by the gauges.
        if measure is not None and recorder is not None:
            measure(event, recorder)

    def _begin_call(self, event: CallStarted, _: Recorder) -> None:
        self._active.add(1, {POLICY: self._bounds.policy(event.policy)})

    def _end_call(self, event: CallEnded, recorder: Recorder) -> None:
        self._active.add(-1, {POLICY: self._bounds.policy(event.policy)})
        error_type = error_types.of_call(recorder.call, event.outcome, event.error_type)
        facts = self._facts(event, recorder, error_type)
        facts[OUTCOME] = event.outcome
        self._calls.record(event.duration, facts)

    def _end_attempt(self, event: AttemptEnded, recorder: Recorder) -> None:
        error_type = error_types.of_attempt(event.verdict, event.error_type)
        facts = self._facts(event, recorder, error_type)
        facts[VERDICT] = event.verdict.value
        resource = recorder.call.resource
        if resource is not None and settings().resource_ids:
            facts[RESOURCE] = resource.id
        self._attempts.record(event.duration, facts)

    def _end_wait(self, event: WaitEnded, _: Recorder) -> None:
        facts = {POLICY: self._bounds.policy(event.policy), data.STAGE: event.stage}
        self._waits.record(event.seconds, facts)

    def _retry(self, event: RetryScheduled, recorder: Recorder) -> None:
        facts = self._facts(event, recorder, error_types.of_decision(event))
        facts[VERDICT] = event.verdict.value
        self._retries.add(1, facts)

    def _reject(self, event: CallRejected, _: Recorder) -> None:
        bounds = self._bounds
        facts = {
            POLICY: bounds.policy(event.policy),
            data.STAGE: event.stage,
            ERROR_TYPE: bounds.error_type(event.error_type),
        }
        self._rejections.add(1, facts)

    def _drop(self, event: JobDropped) -> None:
        bounds = self._bounds
        facts = {
            data.POOL: bounds.policy(event.policy),
            OPERATION: bounds.operation(event.operation),
            data.REASON: event.reason,
            ERROR_TYPE: bounds.error_type(event.error_type),
        }
        self._dropped.add(1, facts)

    def _facts(self, event: Event, recorder: Recorder, error_type: str | None) -> Facts:
        bounds = self._bounds
        facts = {
            POLICY: bounds.policy(event.policy),
            OPERATION: bounds.operation(recorder.operation),
        }
        if error_type is not None:
            facts[ERROR_TYPE] = bounds.error_type(error_type)
        return facts
