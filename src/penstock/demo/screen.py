"""What a run shows while it is under way: nothing but a protocol, and plain lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from penstock import clock

__all__ = ["PlainScreen", "Screen"]

_LINE_EVERY = 1.0


class Screen(Protocol):
    """Shows a run; a context manager that leaves the terminal as it was."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """End."""
        ...

    def advance(self) -> None:
        """Count one more call as done."""

    def paint(self) -> None:
        """Show how things stand now; called some ten times a second."""


class PlainScreen:
    """A line every second, for logs and pipes.

    Args:
        calls: How many there will be.
        status: Returns how things stand, in one line.
        write: Takes each line.
    """

    def __init__(
        self, calls: int, status: Callable[[], str], write: Callable[[str], object]
    ) -> None:
        self._calls = calls
        self._status = status
        self._write = write
        self._done = 0
        self._began = self._next = clock.now()

    def __enter__(self) -> Self:
        self._began = self._next = clock.now()
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def advance(self) -> None:
        """Count one more call as done."""
        self._done += 1

    def paint(self) -> None:
        """Write a line if it is time."""
        now = clock.now()
        if now < self._next:
            return
        self._next = now + _LINE_EVERY
        done = f"{self._done:4d} of {self._calls} calls done"
        self._write(f"{now - self._began:5.1f} s  {done}, {self._status()}")
