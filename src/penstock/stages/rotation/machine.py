"""How a rotation decides what an attempt's outcome means for the resource that served it."""

from __future__ import annotations

from penstock.errors import DisplacedError
from penstock.pools.lease import Lease
from penstock.pools.machine import PoolMachine
from penstock.verdict import RotationEffect, Signal, TryAgain, Verdict, VerdictKind

__all__ = ["RotationMachine"]


class RotationMachine:
    """Reads the verdict table's rotation column for a pool.

    Args:
        pool: The pool's machine.
        max_cooldown: Most seconds of a server's own hint that are obeyed.
        penalty: Seconds of latency that a failure counts as; None where the picker asks for none.
    """

    __slots__ = ("_max_cooldown", "_penalty", "pool")

    def __init__(self, pool: PoolMachine, max_cooldown: float, penalty: float | None) -> None:
        self.pool = pool
        self._max_cooldown = max_cooldown
        self._penalty = penalty

    def succeed(self, lease: Lease, now: float) -> None:
        """Record a good result."""
        if lease.candidate.level:
            self.pool.heal(lease, now)
        if self._penalty is not None:
            self.pool.observe(lease, now - lease.began, now)

    def fail(self, lease: Lease, failure: BaseException, verdict: Verdict, now: float) -> None:
        """Record a failure.

        Args:
            lease: The use that failed.
            failure: What the operation raised, or the refused result's carrier.
            verdict: What it means.
            now: Monotonic seconds.
        """
        counts = lease.candidate.member.counts
        match verdict.effects.rotation:
            case RotationEffect.NEUTRAL:
                counts.cancelled += 1
                return
            case RotationEffect.HEALTHY:
                self.pool.heal(lease, now)
            case RotationEffect.COOL_DOWN if _is_of_resource(failure, verdict):
                self._penalise(lease, now)
                self.pool.cool(lease, now, self._hint(failure, verdict), verdict.reason)
            case RotationEffect.DISABLE:
                self._refused(lease, verdict, now)
            case RotationEffect.PENALISE if not isinstance(failure, TryAgain):
                self._penalise(lease, now)
                self._cool_if_asked(lease, verdict, now)
            case _:
                # A refusal of a policy further in, or a wish to try again: nobody's fault.
                pass
        counts.failures += 1

    def _refused(self, lease: Lease, verdict: Verdict, now: float) -> None:
        # A quota is an account's, and may come back at a stated time; credentials are their own.
        if verdict.kind is not VerdictKind.QUOTA_EXHAUSTED:
            self.pool.disable(lease, now, verdict.reason, with_group=False)
        elif verdict.retry_after is None:
            self.pool.disable(lease, now, verdict.reason, with_group=True)
        else:
            self.pool.cool(lease, now, self._capped(verdict.retry_after), verdict.reason)

    def _penalise(self, lease: Lease, now: float) -> None:
        # A rate limit too: a rest is over soon, and whoever has little room is back as if nothing
        # had been. The penalty wanes slowly, and shares the load out by what each can bear.
        if self._penalty is not None:
            self.pool.observe(lease, max(self._penalty, now - lease.began), now)

    def _cool_if_asked(self, lease: Lease, verdict: Verdict, now: float) -> None:
        if verdict.retry_after is not None:
            seconds = self._capped(verdict.retry_after)
            self.pool.cool(lease, now, seconds, verdict.reason, is_soft=True)

    def _hint(self, failure: BaseException, verdict: Verdict) -> float | None:
        # What the user's own code asks for is meant; what a server sends may be anything.
        if verdict.retry_after is None or isinstance(failure, Signal):
            return verdict.retry_after
        return self._capped(verdict.retry_after)

    def _capped(self, seconds: float) -> float:
        return min(seconds, self._max_cooldown)


def _is_of_resource(failure: BaseException, verdict: Verdict) -> bool:
    # What a policy further in refuses, or loses, says nothing of the resource out here.
    return verdict.sent and not isinstance(failure, DisplacedError)
