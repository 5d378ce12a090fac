"""The one place where penstock reads time: ``clock.now()``, monotonic seconds.

Call it through the module (``clock.now()``), never ``from penstock.clock import now``: a
virtual-time loop replaces the source while it runs, and a copied name would keep reading the real
clock. It is a module attribute because ``loop.time()`` is rounded to a millisecond on uvloop and
costs a Python call on asyncio.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["now", "replaced_by"]

now: Callable[[], float] = time.monotonic


# Loops in two threads need not leave in the reverse order of their entering.
_sources: list[Callable[[], float]] = [now]


class replaced_by:  # noqa: N801 - reads as the sentence ``with clock.replaced_by(source)``
    """Read time from another source inside the ``with`` block; for virtual-time loops.

    The source that was entered last counts, in all threads. Whoever leaves takes its own source
    away, so the real clock is back when all have left, in whatever order.

    Args:
        source: Returns seconds, never going backwards.
    """

    def __init__(self, source: Callable[[], float]) -> None:
        self._source = source

    def __enter__(self) -> None:
        _sources.append(self._source)
        _read_newest()

    def __exit__(self, *exc_info: object) -> None:
        _sources.remove(self._source)
        _read_newest()


def _read_newest() -> None:
    global now  # noqa: PLW0603 - the seam itself
    now = _sources[-1]
