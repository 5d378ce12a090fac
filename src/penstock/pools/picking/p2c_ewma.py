"""P2C with peak EWMA: the better of two drawn by lot."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf

from penstock.pools.candidate import Candidate
from penstock.pools.picking.drawn import Random

__all__ = ["DEFAULT_DECAY", "P2cEwma", "observed"]

# Seconds. Finagle's default: long enough to remember a slow answer over a burst of calls, short
# enough that a candidate which has recovered is back in use within half a minute.
DEFAULT_DECAY = 10.0

# Seconds. An answer in no time (from a cache, in a test) is an answer all the same.
_LEAST_LATENCY = 1e-9


class P2cEwma(Random):
    """Serves the better of two drawn by lot: the one with less latency times uses under way.

    Two choices are enough to keep away from the slow and the busy, and callers that choose at the
    same moment do not all choose the same (Mitzenmacher, "The Power of Two Choices in Randomized
    Load Balancing", 2001). The latency is a peak EWMA as in Finagle; see ``observed``.

    Who has not answered yet costs nothing while it is idle, so that it is tried, and more than
    anybody who has answered while it is not, so that it is not flooded.

    Args:
        chance: Returns the next random number, from 0 up to but not including 1.
        decay: Seconds in which a latency that is not confirmed falls to 37 %, above 0.
    """

    __slots__ = ("_decay",)

    def __init__(self, chance: Callable[[], float], decay: float = DEFAULT_DECAY) -> None:
        super().__init__(chance)
        self._decay = decay

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return the better of two."""
        del key
        ready = self._ready
        others = len(ready) - 1
        if others < 1:
            return ready[0] if ready else None
        # One number draws one of the n (n - 1) ordered pairs.
        i, j = divmod(int(self._chance() * (others + 1) * others), others)
        first, second = ready[i], ready[j + 1 if j >= i else j]
        return second if self._costs(second, now) < self._costs(first, now) else first

    def _costs(self, candidate: Candidate, now: float) -> tuple[float, int]:
        latency, in_flight = candidate.latency, candidate.in_flight
        if not latency:
            return (inf if in_flight else 0.0), in_flight
        waned = exp((candidate.latency_at - now) / self._decay)
        return latency * waned * (in_flight + 1), in_flight


def observed(
    candidate: Candidate, seconds: float, now: float, decay: float = DEFAULT_DECAY
) -> None:
    """Count an answer's latency into the candidate's peak EWMA.

    A slower answer counts in full at once: waiting for an average to notice costs calls. A faster
    one counts the more, the longer ago the last answer was: ``w * old + (1 - w) * seconds`` with
    ``w = exp(-elapsed / decay)``, an exponentially weighted average over time, not over calls
    (Finagle's peak EWMA).

    Args:
        candidate: Who answered.
        seconds: How long it took, finite and at least 0; more than that for a failure, so that
            failing fast does not look like answering fast.
        now: Monotonic seconds of the answer.
        decay: Seconds in which an old latency's part in the average falls to 37 %, above 0.
    """
    seconds = max(seconds, _LEAST_LATENCY)
    old = candidate.latency
    if seconds < old:
        old_part = exp(min(0.0, candidate.latency_at - now) / decay)
        seconds += (old - seconds) * old_part
    candidate.latency = seconds
    candidate.latency_at = now
