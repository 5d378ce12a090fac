"""Workers for the tests on Ray; an actor imports this module by its name."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

from penstock import RestartWorker, current_call


class OddError(Exception):
    """Cannot come out of a pickle: it wants more than its text."""

    def __init__(self, text: str, status_code: int) -> None:
        super().__init__(text)
        self.status_code = status_code


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

    def note(self, what: object) -> None:
        """Remember something."""
        self.log.append(what)

    def block(self, seconds: float) -> str:
        """Do nothing else for a while."""
        time.sleep(seconds)
        self.log.append("blocked")
        return "blocked"

    async def clean_up(self, seconds: float) -> None:
        """Wait, and take a moment to clean up."""
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.sleep(0.05)
            self.log.append("cleaned")

    async def stay(self, seconds: float) -> str:
        """Wait, whoever cancels."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
        return "stayed"

    async def settle(self, tokens: float) -> float:
        """Tell the call what it has cost."""
        current_call().settle(tokens=tokens)
        return tokens

    def settle_and_fail(self, tokens: float) -> None:
        """Tell the call what it has cost, and fail."""
        current_call().settle(tokens=tokens)
        raise LookupError("more")

    def fail(self, text: str) -> None:
        """Raise an error that travels."""
        raise LookupError(text)

    def fail_oddly(self, text: str) -> None:
        """Raise an error that does not."""
        raise OddError(text, 503)

    def give_lock(self) -> object:
        """Return what cannot be sent."""
        return threading.Lock()

    def leave(self) -> None:
        """End the program."""
        sys.exit(3)

    def crash(self) -> None:
        """End the process."""
        os._exit(3)

    def ask_for_restart(self) -> None:
        """Have enough."""
        raise RestartWorker("had enough")


class Slow(Clerk):
    """A worker whose health can be lost."""

    async def healthy(self) -> bool:
        """Return False when it was noted."""
        return "ill" not in self.log


class Refuser:
    """A worker that does not start."""

    def start(self) -> None:
        """Refuse."""
        raise LookupError("not today")


class Holder:
    """A worker that is made with anything."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def get(self) -> Any:
        """Return it."""
        return self.held
