"""The pool's side of one worker process: what is sent there, what is answered, and its end."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any, cast

from penstock.errors import WorkerDiedError
from penstock.workers.host import Answer
from penstock.workers.modes.process_board import Board
from penstock.workers.modes.process_child import UP
from penstock.workers.modes.process_frames import CANCEL, FrameReader, Sender
from penstock.workers.modes.process_start import WorkerProcess, ending

__all__ = ["Link", "NotBegunError"]

# Seconds: what a process that has closed its end may take to go, and what it has written last to
# be read; how soon to look again how it has ended.
_GOING = 1.0
_READING = 0.2
_AGAIN = 0.005

_BEFORE_IT_WAS_UP = (
    "before it was up: what it has written says why; a script that starts processes needs "
    "`if __name__ == '__main__':`"
)


class NotBegunError(Exception):
    """The process ended before it came to the call."""


class Link(asyncio.Protocol):
    """One worker process as the pool's loop sees it.

    Args:
        name: The worker's id, for messages.
        process: It has just been started.
        on_end: Told why when it ends without having been asked to.

    Attributes:
        board: What both sides know at once.
        calls: What has been sent and not been answered, by number.
        room: Done when more can be sent; None while it can.
        gone: Done when the process has ended and everything of it was given back.
        reason: Why it ends; None while it serves.
    """

    def __init__(self, name: str, process: WorkerProcess, on_end: Callable[[str], None]) -> None:
        self.board: Board = process.board
        self.calls: dict[int, asyncio.Future[Any]] = {}
        self.room: asyncio.Future[None] | None = None
        self.reason: str | None = None
        self._name = name
        self._process = process
        self._on_end = on_end
        self._loop = loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._reader = FrameReader()
        self._number = UP
        self._is_up = False
        self._is_read = False
        loop.add_reader(process.sentinel, self._look)
        self._keeper = loop.create_task(self._keep(), name=f"{name} is kept")

    async def open(self) -> Answer:
        """Connect; return what the process says when its worker is up, or could not be started."""
        up = self.calls[UP] = self._loop.create_future()
        await self._loop.create_unix_connection(lambda: self, sock=self._process.sock)
        answer: Answer = await up
        self._is_up = True
        return answer

    def ask(self, kind: int, body: bytes = b"") -> tuple[int, asyncio.Future[Any]]:
        """Send something that is answered; return its number, and what gets the answer.

        Raises:
            WorkerDiedError: The process ends, or has ended.
        """
        if self.reason is not None:
            raise WorkerDiedError(f"{self._name} has ended ({self.reason})")
        self._number = number = self._number + 1
        future = self.calls[number] = self._loop.create_future()
        self._sender.send(kind, number, body)
        return number, future

    def send(self, kind: int, number: int, body: bytes) -> None:
        """Send something that is not answered."""
        self._sender.send(kind, number, body)

    def cancel(self, number: int) -> asyncio.Future[Any]:
        """Tell the process that nobody waits for a call; return what gets its last word."""
        last = self.calls[number] = self._loop.create_future()
        self.board.cancels += 1
        self._sender.send(CANCEL, number)
        return last

    def kill(self, reason: str) -> None:
        """Kill the process; calls under way fail when it has gone."""
        if self.reason is None:
            self.reason = reason
        if not self.gone.done():
            self._process.kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where frames go."""
        # Not asked what it is: uvloop's is no subclass of asyncio's.
        self._sender = Sender(self._loop, cast("asyncio.WriteTransport", transport))

    def data_received(self, data: bytes) -> None:
        """Hand answers to whoever waits for them."""
        calls = self.calls
        for _, number, body in self._reader.feed(data):
            future = calls.pop(number, None)
            if future is not None and not future.done():
                future.set_result(self._answer_in(body))

    def pause_writing(self) -> None:
        """Hold up who wants to send."""
        self.room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let them go on."""
        room, self.room = self.room, None
        if room is not None and not room.done():
            room.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect the end of the process, which has nothing to say any more."""
        del exc
        self._is_read = True
        if self._ended.done():
            return
        if self._process.exit_code is not None:
            self._end()
        elif self.reason is None:
            self._loop.call_later(_GOING, self._process.kill)

    def _answer_in(self, body: memoryview) -> Any:
        try:
            return pickle.loads(body)  # noqa: S301 - from a process that we have started
        except Exception as failure:  # noqa: BLE001 - a class of the user's may raise anything
            error = TypeError(f"{self._name}: the result cannot be unpickled here: {failure!r}")
            error.__cause__ = failure
            return Answer.failed(error)

    def _look(self) -> None:
        """See how the process has ended."""
        self._loop.remove_reader(self._process.sentinel)
        if self._ended.done():
            return
        if self._process.exit_code is None:
            self._loop.call_later(_AGAIN, self._look)
        elif self._is_read:
            self._end()
        else:
            # What it has answered last is on its way. A process of its own may hold the line open.
            self._loop.call_later(_READING, self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _keep(self) -> None:
        try:
            await self._ended
        except asyncio.CancelledError:
            # The loop is shut down.
            self.kill("its event loop has ended")
            raise
        finally:
            self._conclude()

    def _conclude(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        code, begun = self._process.exit_code, self.board.begun
        word, sentence = ending(code)
        if self.reason is None:
            self.reason = word
            self._on_end(word)
        when = "" if self._is_up else f" {_BEFORE_IT_WAS_UP}"
        message = f"{self._name} (process {self._process.pid}) {sentence}{when}"
        calls, self.calls = self.calls, {}
        for number, future in calls.items():
            if not future.done():
                died = NotBegunError() if number > begun else WorkerDiedError(message)
                future.set_exception(died)
        self.resume_writing()
        if hasattr(self, "_sender"):
            self._sender.abort()
        self._process.bury()
        self.gone.set_result(None)
