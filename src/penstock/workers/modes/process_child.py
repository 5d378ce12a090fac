"""The side of a worker process: it runs what the pool sends, and answers."""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import time
from collections import deque
from functools import partial
from typing import Any, cast

from penstock.workers.host import Answer, Host
from penstock.workers.modes.process_board import Board
from penstock.workers.modes.process_frames import (
    ANSWER,
    CALL,
    CANCEL,
    PING,
    STOP,
    TARGET,
    Frame,
    FrameReader,
    Sender,
)
from penstock.workers.modes.process_parent import end_with_parent
from penstock.workers.target import Target

__all__ = ["UP", "Resident", "live"]

UP = 0
"""The number of the answer that tells that the worker has started, or why not."""

# What runs longer lets the loop look after the others.
_LONG = 0.001


def live(sock: socket.socket, memory: Any, parcel: Any, stop_timeout: float) -> None:
    """Be a worker process, from its start to its end.

    Args:
        sock: Where the pool is.
        memory: Of the board; ``detach`` returns its file descriptor.
        parcel: What the host is made with, still pickled.
        stop_timeout: Seconds that the worker's ``stop`` may take when the pool has gone.
    """
    # Ctrl-C reaches every process at the terminal; what is to be done about it the pool decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(stop_timeout)
    asyncio.run(_live(sock, Board(memory.detach()), parcel, stop_timeout))


async def _live(sock: socket.socket, board: Board, parcel: Any, stop_timeout: float) -> None:
    resident = Resident(board, stop_timeout)
    await asyncio.get_running_loop().create_unix_connection(lambda: resident, sock=sock)
    await resident.serve(parcel)


class Resident(asyncio.Protocol):
    """One worker in its process. Calls begin in the order in which they come.

    Args:
        board: What the pool and this process know of each other at once.
        stop_timeout: Seconds that the worker's ``stop`` may take when the pool has gone.
    """

    def __init__(self, board: Board, stop_timeout: float) -> None:
        self._board = board
        self._stop_timeout = stop_timeout
        self._host: Any = None
        self._reader = FrameReader()
        self._targets: dict[int, Target | Answer] = {}
        self._waiting: deque[tuple[int, memoryview]] = deque()
        self._skipped: set[int] = set()
        self._cancels = 0
        self._tasks: dict[int, asyncio.Task[Answer]] = {}
        self._is_pumping = False
        self._is_leaving = False
        self._main: asyncio.Task[Any] | None = None
        self._loop = loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._told_to_stop: asyncio.Future[int] = loop.create_future()

    async def serve(self, parcel: Any) -> None:
        """Start the worker, serve it, and stop it; the connection is there."""
        self._main = asyncio.current_task()
        try:
            if await self._start(parcel):
                number = await self._told_to_stop
                self._answer(number, await self._result_of(self._host.stop()))
        except asyncio.CancelledError:
            await self._leave()
        finally:
            self._is_leaving = True
            self._sender.flush()
            # What was written is sent first.
            self._transport.close()
            await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where answers go."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._sender = Sender(self._loop, self._transport)

    def data_received(self, data: bytes) -> None:
        """Do what the pool asks for."""
        for frame in self._reader.feed(data):
            self._take(frame)
        if not self._is_pumping:
            self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the pool has gone."""
        del exc
        self._waiting.clear()
        self._lost.set_result(None)
        if self._main is not None and not self._is_leaving:
            self._main.cancel()

    async def _start(self, parcel: Any) -> bool:
        answer = await self._result_of(self._make(parcel))
        self._answer(UP, answer)
        return answer.ok

    async def _make(self, parcel: Any) -> None:
        self._host = Host(*parcel.opened())
        await self._host.start()

    async def _result_of(self, work: Any) -> Answer:
        try:
            return Answer(True, await work, ())  # noqa: FBT003 - the field's own value
        except asyncio.CancelledError:
            raise
        except BaseException as failure:  # noqa: BLE001 - raised where it was asked for
            return Answer.failed(failure)

    async def _leave(self) -> None:
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if self._host is not None:
            stop = asyncio.ensure_future(self._result_of(self._host.stop()))
            await asyncio.wait([stop, *tasks], timeout=self._stop_timeout)

    def _take(self, frame: Frame) -> None:
        kind, number, body = frame
        if kind == CALL:
            self._waiting.append((number, body))
        elif kind == CANCEL:
            self._cancels += 1
            task = self._tasks.get(number)
            if task is not None:
                # Not before its first step: nobody would await what it was to await.
                self._loop.call_soon(task.cancel)
            elif number > self._board.begun:
                self._skipped.add(number)
        elif kind == TARGET:
            self._targets[number] = self._target_of(body)
        elif kind == PING and self._host is not None:
            self._watch(number, self._loop.create_task(self._result_of(self._host.healthy())))
        elif kind == STOP and not self._told_to_stop.done():
            self._told_to_stop.set_result(number)

    def _target_of(self, body: memoryview) -> Target | Answer:
        try:
            target: Target = pickle.loads(body)  # noqa: S301 - from the pool that started us
        except Exception as failure:  # noqa: BLE001 - whatever it is, its calls fail with it
            return Answer.failed(failure)
        return target

    def _pump(self) -> None:
        """Begin the calls that wait."""
        self._is_pumping = False
        waiting, board = self._waiting, self._board
        # Answers that are ready do not wait for a call that may take its time.
        self._sender.flush()
        while waiting:
            number = waiting[0][0]
            before, board.begun = board.begun, number
            if board.cancels != self._cancels:
                # One is on its way, and may be for this call.
                board.begun = before
                return
            body = waiting.popleft()[1]
            if number in self._skipped:
                self._skipped.discard(number)
                self._answer(number, Answer.failed(asyncio.CancelledError()))
            elif self._run(number, body) > _LONG and waiting:
                self._is_pumping = True
                self._loop.call_soon(self._pump)
                return

    def _run(self, number: int, body: memoryview) -> float:
        board, began = self._board, time.perf_counter()
        board.running = number
        answer = self._begin(body)
        board.running = 0
        if isinstance(answer, Answer):
            # The next one may take its time.
            self._sender.send_now(ANSWER, number, _pickled(answer))
        else:
            self._watch(number, answer)
        return time.perf_counter() - began

    def _begin(self, body: memoryview) -> Answer | asyncio.Task[Answer]:
        try:
            target_number, args, kwargs, carrier = pickle.loads(body)  # noqa: S301 - as above
        except Exception as failure:  # noqa: BLE001 - a class of the user's may raise anything
            return _refused("the arguments cannot be unpickled in the worker", failure)
        target = self._targets[target_number]
        if isinstance(target, Answer):
            return target
        answer: Answer | asyncio.Task[Answer] = self._host.begin(target, args, kwargs, carrier)
        return answer

    def _watch(self, number: int, task: asyncio.Task[Answer]) -> None:
        self._tasks[number] = task
        task.add_done_callback(partial(self._ended, number))

    def _ended(self, number: int, task: asyncio.Task[Answer]) -> None:
        del self._tasks[number]
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._answer(number, task.result() if failure is None else Answer.failed(failure))

    def _answer(self, number: int, answer: Answer) -> None:
        self._sender.send(ANSWER, number, _pickled(answer))


def _pickled(answer: Answer) -> bytes:
    try:
        return pickle.dumps((*answer,), pickle.HIGHEST_PROTOCOL)
    except Exception as failure:  # noqa: BLE001 - a class of the user's may raise anything
        refused = _refused("the result cannot be pickled", failure)
        return pickle.dumps((*refused,), pickle.HIGHEST_PROTOCOL)


def _refused(why: str, failure: Exception) -> Answer:
    error = TypeError(f"{why}: {failure!r}")
    error.__cause__ = failure
    return Answer.failed(error)
