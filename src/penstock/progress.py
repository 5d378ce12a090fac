"""Progress of many calls: a bar in the terminal, a callable of the user's, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from penstock.errors import ConfigError
from penstock.matching import answer_of

__all__ = ["Progress", "Reporter", "reporter"]

_log = logging.getLogger("penstock")

# True for a bar, or called with (done, total); total is None where the number of items is unknown.
Progress = bool | Callable[[int, int | None], object] | None


class Reporter(Protocol):
    """What the batch functions talk to."""

    async def advance(self) -> None:
        """Count one more item as done."""

    def close(self) -> None:
        """Take the bar down."""


class _Silent:
    async def advance(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Callback:
    """Tells the user's callable, sync or async; one that raises is reported once."""

    def __init__(self, tell: Callable[[int, int | None], object], total: int | None) -> None:
        self._tell = tell
        self._total = total
        self._done = 0
        self._has_raised = False

    async def advance(self) -> None:
        self._done += 1
        try:
            await answer_of(self._tell(self._done, self._total))
        except Exception:  # noqa: BLE001 - a hook changes nothing for the calls it is told about
            if not self._has_raised:
                self._has_raised = True
                _log.exception("progress callable raised; further errors of it are not shown")

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, total: int | None) -> None:
        try:
            from rich import progress  # noqa: PLC0415 - only when a bar is asked for
        except ImportError:
            msg = "progress=True needs rich: pip install 'penstock[cli]', or pass a callable"
            raise ConfigError(msg) from None
        self._bar: Any = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn() if total is None else progress.TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._bar.add_task("calls", total=total)
        self._bar.start()

    async def advance(self) -> None:
        self._bar.advance(self._task)

    def close(self) -> None:
        self._bar.stop()


def reporter(progress: object, total: int | None) -> Reporter:
    """Return what is told about each finished item.

    Args:
        progress: As a ``Progress``; checked.
        total: How many items there are; None where nobody knows.

    Raises:
        ConfigError: ``progress`` is neither a bool, None nor callable, or rich is missing.
    """
    if progress is True:
        return _Bar(total)
    if callable(progress):
        return _Callback(progress, total)
    if progress is None or progress is False:
        return _Silent()
    msg = f"'progress' must be true, false or a callable(done, total); got {progress!r}"
    raise ConfigError(msg)
