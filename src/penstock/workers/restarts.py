"""How often a worker may be started anew: after growing pauses, and not for ever."""

from __future__ import annotations

from collections import deque

__all__ = ["Restarts"]


class Restarts:
    """The restarts of one worker. Pure: ``now`` is an argument.

    The rule is that of Erlang's supervisors: more than so many restarts within so many seconds are
    too many. So are as many in a row of which none brought the worker up, however long each took:
    a start that hangs until its time is up would never be seen twice in one window.

    Args:
        delays: Seconds before the first, second, ... restart in a row; the last one goes on.
        most: Restarts that are allowed within ``window``, from 1.
        window: Seconds. A worker that was up for as long is as good as new.
    """

    __slots__ = ("_delays", "_in_row", "_in_vain", "_most", "_times", "_up_since", "_window")

    def __init__(self, delays: tuple[float, ...], most: int, window: float) -> None:
        self._delays = delays
        self._most = most
        self._window = window
        self._times: deque[float] = deque()
        self._in_row = 0
        self._in_vain = 0
        self._up_since: float | None = None

    def next_delay(self, now: float) -> float | None:
        """Return how many seconds to wait before the next restart; None when it is one too many."""
        times = self._times
        while times and times[0] <= now - self._window:
            times.popleft()
        if self._up_since is not None and now - self._up_since >= self._window:
            self._in_row = 0
        self._up_since = None
        if len(times) >= self._most or self._in_vain >= self._most:
            return None
        times.append(now)
        self._in_row += 1
        self._in_vain += 1
        return self._delays[min(self._in_row, len(self._delays)) - 1]

    def come_up(self, now: float) -> None:
        """Note that the worker is up."""
        self._in_vain = 0
        self._up_since = now

    def forget(self) -> None:
        """Begin anew: somebody has seen to it."""
        self._times.clear()
        self._in_row = self._in_vain = 0
