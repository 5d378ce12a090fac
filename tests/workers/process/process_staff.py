"""Workers for the tests of processes; a process imports this module by its name."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from penstock import current_call, current_resource


class Clerk:
    """A worker that does all that is asked of it."""

    def __init__(self, name: str = "clerk") -> None:
        self.name = name
        self.index = -1
        self.count = 0
        self.log: list[object] = []

    async def start(self, index: int) -> None:
        """Note the place."""
        self.index = index

    def pid(self) -> int:
        """Return where it lives."""
        return os.getpid()

    def add(self, number: int) -> int:
        """Return one more; count."""
        self.count += 1
        return number + 1

    async def add_later(self, number: int, delay: float = 0.01) -> int:
        """Return one more, after a while."""
        await asyncio.sleep(delay)
        self.count += 1
        return number + 1

    def told(self) -> tuple[str, int, int, list[object]]:
        """Return its state."""
        return self.name, self.index, self.count, self.log

    def note(self, what: object, seconds: float = 0.0) -> int:
        """Note something, and block for so long."""
        self.log.append(what)
        time.sleep(seconds)
        return os.getpid()

    def note_in(self, path: str, what: str, seconds: float = 0.0) -> str:
        """Note something in a file, and block for so long."""
        with Path(path).open("a") as file:
            file.write(what + "\n")
        time.sleep(seconds)
        return what

    async def clean_up(self, path: str) -> None:
        """Wait for a cancel, and clean up when it comes."""
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            write(path, "cleaned up")

    async def stubborn(self, path: str, seconds: float) -> str:
        """Take no notice of a cancel."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            write(path, "would not go")
            await asyncio.sleep(seconds)
        return "stayed"

    def die(self, how: str) -> None:
        """End the process."""
        match how:
            case "SIGKILL" | "SIGTERM":
                os.kill(os.getpid(), signal.Signals[how])
                time.sleep(10)
            case "SIGSEGV":
                ctypes.string_at(0)
            case "os._exit":
                os._exit(7)
            case _:
                sys.exit(7)

    def fail(self, error: BaseException) -> None:
        """Raise it."""
        raise error

    def refuse(self) -> None:
        """Raise what can be pickled and not be unpickled."""
        raise Picky("no", code=429)

    def unpicklable(self) -> Any:
        """Return what cannot be sent."""
        return lambda: None

    def bomb(self) -> Bomb:
        """Return what cannot be unpickled."""
        return Bomb()

    def size_of(self, data: bytes) -> int:
        """Return how long it is."""
        return len(data)

    def many(self, size: int) -> bytes:
        """Return so many bytes."""
        return bytes(size)

    def settle(self, tokens: float) -> str | None:
        """Tell what it cost; return the worker's id."""
        current_call().settle(tokens)
        return current_resource().id


def write(path: str, text: str) -> None:
    """Write a file."""
    Path(path).write_text(text)


class Picky(Exception):  # noqa: N818 - what it is
    """Wants more than a pickle gives it."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.status_code = code


class Bomb:
    """Can be pickled and not be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


def explode() -> None:
    """Raise."""
    raise ValueError("boom")


class Broken:
    """A worker that cannot start."""

    def start(self) -> None:
        """Raise."""
        raise OSError("no licence")


class Hanging(Clerk):
    """A worker that hangs where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    async def start(self, index: int) -> None:
        """Hang, maybe."""
        await super().start(index)
        if self.where == "start":
            time.sleep(60)  # noqa: ASYNC251 - it hangs

    def stop(self) -> None:
        """Hang, maybe."""
        if self.where == "stop":
            time.sleep(60)


class Failing:
    """A worker whose stop raises and whose health is told by a file."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def pid(self) -> int:
        """Return where it lives."""
        return os.getpid()

    async def healthy(self) -> bool:
        """Be ill while there is a file; count the questions."""
        with self.path.with_suffix(".asked").open("a") as file:
            file.write("?")
        return not self.path.exists()

    def block(self, seconds: float) -> int:
        """Block."""
        time.sleep(seconds)
        return os.getpid()

    def stop(self) -> None:
        """Raise."""
        raise OSError("will not")


class Stopped:
    """A worker that notes its stop in a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def pid(self) -> int:
        """Return where it lives."""
        return os.getpid()

    def stop(self) -> None:
        """Note it."""
        Path(self.path).write_text("stopped")


class Exits:
    """A worker whose class ends the process that makes it."""

    def __init__(self) -> None:
        os._exit(9)


class Holder:
    """Holds something that cannot be pickled."""

    def __init__(self) -> None:
        self.fine = 1
        self.inner = {"sock": lambda: None}
