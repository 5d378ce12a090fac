"""How often a worker may be started anew: after growing pauses, and not for ever."""

from __future__ import annotations

from collections import deque

__all__ = ["Restarts"]


class Restarts:
    """The restarts of one worker. Pure: ``now`` is an argument.

    The rule is that of Erlang's supervisors: more than so many restarts within so many seconds are
    too many. Here each of them also waits longer than the one before.

    Args:
        delays: Seconds before the first, second, ... restart in a row; the last one goes on.
        most: Restarts that are allowed within ``window``.
        window: Seconds.
    """

    __slots__ = ("_delays", "_most", "_times", "_window", "total")

    def __init__(self, delays: tuple[float, ...], most: int, window: float) -> None:
        self._delays = delays
        self._most = most
        self._window = window
        self._times: deque[float] = deque()
        self.total = 0

    def next_delay(self, now: float) -> float | None:
        """Return how many seconds to wait before the next restart; None when it is one too many."""
        times = self._times
        while times and times[0] <= now - self._window:
            times.popleft()
        if len(times) >= self._most:
            return None
        times.append(now)
        self.total += 1
        return self._delays[min(len(times), len(self._delays)) - 1]

    def forget(self) -> None:
        """Begin anew: somebody has seen to it."""
        self._times.clear()
