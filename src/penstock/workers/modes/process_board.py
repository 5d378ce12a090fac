"""Board: three numbers in memory that a pool and a worker process share."""

from __future__ import annotations

import mmap
import os
import tempfile

__all__ = ["Board", "new_memory"]

_BYTES = 64

_BEGUN, _RUNNING, _CANCELS = range(3)


class Board:
    """What both sides must know at once, without a message on its way.

    A call that waits in a worker process can be taken back without harm; one that runs there and is
    not async can be ended by killing the process alone. So the pool has to know which of the two it
    is, and a message would tell what was the case a moment ago. The two sides write first and read
    then, in opposite order: the process writes that it begins a call, then reads whether a cancel
    is on its way; the pool counts the cancel, then reads which calls have begun. So at least one of
    them knows of the other (the rule of Dekker's algorithm), and each number has one writer.

    Args:
        fd: Of the shared memory, which is owned from then on.
    """

    __slots__ = ("_map", "_numbers")

    def __init__(self, fd: int) -> None:
        try:
            self._map = mmap.mmap(fd, _BYTES)
        finally:
            os.close(fd)
        # One aligned word each: it is written and read as a whole.
        self._numbers = memoryview(self._map).cast("Q")

    @property
    def begun(self) -> int:
        """The last call that the process has begun; it begins them in order."""
        return self._numbers[_BEGUN]

    @begun.setter
    def begun(self, number: int) -> None:
        self._numbers[_BEGUN] = number

    @property
    def running(self) -> int:
        """The call for which the process is not in its event loop now; 0 for none."""
        return self._numbers[_RUNNING]

    @running.setter
    def running(self, number: int) -> None:
        self._numbers[_RUNNING] = number

    @property
    def cancels(self) -> int:
        """How many cancels the pool has sent."""
        return self._numbers[_CANCELS]

    @cancels.setter
    def cancels(self, number: int) -> None:
        self._numbers[_CANCELS] = number

    def close(self) -> None:
        """Give the memory back."""
        self._numbers.release()
        self._map.close()


def new_memory() -> int:
    """Return the file descriptor of new memory for a board."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("penstock", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _BYTES)
    return fd
