"""Progress of many calls: a bar in the terminal, a callable of the user's, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from penstock.errors import ConfigError

__all__ = ["Progress", "Reporter", "reporter"]

# True for a bar, or called with (done, total); total is None where the number of items is unknown.
Progress = bool | Callable[[int, int | None], object] | None


class Reporter(Protocol):
    """What the batch functions talk to."""

    def advance(self) -> None:
        """Count one more item as done."""

    def close(self) -> None:
        """Take the bar down."""


class _Silent:
    def advance(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Callback:
    def __init__(self, tell: Callable[[int, int | None], object], total: int | None) -> None:
        self._tell = tell
        self._total = total
        self._done = 0

    def advance(self) -> None:
        self._done += 1
        self._tell(self._done, self._total)

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
            progress.TextColumn("{task.speed:.0f}/s", table_column=None)
            if total is None
            else progress.TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._bar.add_task("calls", total=total)
        self._bar.start()

    def advance(self) -> None:
        self._bar.advance(self._task)

    def close(self) -> None:
        self._bar.stop()


def reporter(progress: Progress, total: int | None) -> Reporter:
    """Return what is told about each finished item.

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
