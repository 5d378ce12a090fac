"""What an answer's headers say is left of a resource's quota."""

from __future__ import annotations

import time

from penstock.hints import Quota, quotas

__all__ = ["quota_left"]


def quota_left(headers: object) -> tuple[float | None, float | None]:
    """Return what is left of the scarcest counter, and the seconds until there is more of it.

    Counters that say their limit are compared by what is left of it; the others by number.

    Args:
        headers: A mapping or pairs, of any kind and in any case.

    Returns:
        ``(remaining, resets_in)``; None for what the headers do not say.
    """
    counters = quotas(headers, wall_now=time.time())
    if not counters:
        return None, None
    # Tokens are spent by the hundred: only the counter of requests says how many calls are left.
    calls = [counter for counter in counters if counter.dimension == "requests"] or counters
    empty = [counter for counter in counters if counter.remaining < 1]
    scarcest = min(empty or calls, key=_left)
    resets = [c.resets_in for c in empty if c.resets_in is not None]
    return scarcest.remaining, max(resets, default=scarcest.resets_in)


def _left(counter: Quota) -> float:
    return counter.remaining / counter.limit if counter.limit else counter.remaining
