"""The stages between a job and its worker: the policy's, with the workers as their resources."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from penstock.call import CallContext
from penstock.policy import Policy
from penstock.pools.administration import Administered
from penstock.stage import Handler
from penstock.stages.rotation import Rotation, RotationOptions
from penstock.workers.options import WorkerPoolOptions

__all__ = ["Way", "Ways", "way_of_worker"]

# A job waits for a worker as long as one is expected; ten years stand for that.
_AS_LONG_AS_IT_TAKES = 10 * 365.25 * 86400.0

# Policies given with single jobs, bound so far. A program that makes one per job must not grow.
_MOST_KEPT = 64


class Way(NamedTuple):
    """The way of a job: what it is handed to, and what all calls of it share."""

    handler: Handler
    context: CallContext

    def with_own(self, priority: int, key: str | None) -> Way:
        """Return the same way for a call with a priority or key of its own."""
        overrides = replace(self.context.overrides, priority=priority, key=key)
        return Way(self.handler, replace(self.context, overrides=overrides))


class Ways:
    """The ways of one pool's jobs, each bound once.

    Args:
        workers: The workers as resources.
        default: The policy of jobs that bring none.
    """

    __slots__ = ("_kept", "_workers", "default")

    def __init__(self, workers: Administered, default: Policy) -> None:
        self._workers = workers
        self._kept: dict[Policy, Way] = {}
        self.default = self._bind(default)

    def of(self, policy: Policy | None) -> Way:
        """Return the way of a policy; the pool's own for None."""
        if policy is None:
            return self.default
        way = self._kept.get(policy)
        if way is None:
            if len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            way = self._kept[policy] = self._bind(policy)
        return way

    def _bind(self, policy: Policy) -> Way:
        rotation = Rotation(RotationOptions(resources=self._workers, max_wait=_AS_LONG_AS_IT_TAKES))
        return Way(*policy.with_stage(rotation).bound())


def way_of_worker(options: WorkerPoolOptions) -> Way | None:
    """Return the stages that a job goes through with its worker in hand; None where there are none.

    Each worker has a copy with state of its own.
    """
    if options.policy is None or options.policy_per == "pool":
        return None
    return Way(*options.policy.fresh().bound())
