"""An observer that counts: all figures of the demo come from events."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass

from penstock.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    CallStarted,
    CircuitChanged,
    Event,
    RetryScheduled,
    WaitEnded,
)
from penstock.verdict import VerdictKind

__all__ = ["Tally", "Wait"]

# As many as a line of the screen can show.
_RECENT = 200


@dataclass(slots=True)
class Wait:
    """How often and how long calls waited in one stage, over all calls.

    Attributes:
        count: Waits.
        seconds: Their sum.
    """

    count: int = 0
    seconds: float = 0.0


class Tally:
    """Counts what a policy's events say; pass it as one of ``observers``.

    Attributes:
        calls_begun: Calls that entered the pipeline.
        calls_ended: Calls that left it, by outcome.
        attempts_begun: How many times the operation was started.
        attempts: Attempts that ended, by verdict.
        retries: Retries by the word for what went before.
        waits: Waits by stage.
        rejections: Refusals by stage, before anything was sent.
        openings: How many times a circuit opened.
        recent: Verdicts of the last attempts, oldest first.
    """

    def __init__(self) -> None:
        self.calls_begun = 0
        self.calls_ended: Counter[str] = Counter()
        self.attempts_begun = 0
        self.attempts: Counter[VerdictKind] = Counter()
        self.retries: Counter[str] = Counter()
        self.waits: defaultdict[str, Wait] = defaultdict(Wait)
        self.rejections: Counter[str] = Counter()
        self.openings = 0
        self.recent: deque[VerdictKind] = deque(maxlen=_RECENT)

    @property
    def calls_under_way(self) -> int:
        """Calls in the pipeline, waiting ones included."""
        return self.calls_begun - self.calls_ended.total()

    @property
    def attempts_under_way(self) -> int:
        """Operations running now."""
        return self.attempts_begun - self.attempts.total()

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case CallStarted():
                self.calls_begun += 1
            case CallEnded(outcome=outcome):
                self.calls_ended[outcome] += 1
            case AttemptStarted():
                self.attempts_begun += 1
            case AttemptEnded(verdict=verdict):
                self._end_attempt(verdict)
            case RetryScheduled():
                self.retries[_cause(event)] += 1
            case WaitEnded(stage=stage, seconds=seconds):
                self.waits[stage].count += 1
                self.waits[stage].seconds += seconds
            case CallRejected(stage=stage):
                self.rejections[stage] += 1
            case CircuitChanged(new="open"):
                self.openings += 1
            case _:
                return

    def _end_attempt(self, verdict: VerdictKind) -> None:
        # The operation itself sees a cancel when its time is up, and nothing else cancels here.
        if verdict is VerdictKind.CANCELLED:
            verdict = VerdictKind.TIMEOUT
        self.attempts[verdict] += 1
        self.recent.append(verdict)


def _cause(event: RetryScheduled) -> str:
    # A rejection and a 429 share a verdict, but only one of them asked the server.
    return "circuit open" if event.error_type == "CircuitOpenError" else event.verdict.value
