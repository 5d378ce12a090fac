"""What happens inside a worker process, without one."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from process_staff import Bomb, Broken, Clerk

from penstock.workers.modes.process_board import Board, new_memory
from penstock.workers.modes.process_child import UP, Resident
from penstock.workers.modes.process_frames import (
    ANSWER,
    CALL,
    CANCEL,
    PING,
    STOP,
    TARGET,
    FrameReader,
    Sender,
)
from penstock.workers.modes.process_parcel import Parcel
from penstock.workers.target import target_of

pytestmark = pytest.mark.virtual_time


class Line(asyncio.Transport):
    """The connection of a resident, seen from both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.resident: Resident | None = None
        self.board = Board(new_memory())
        self.answers: dict[int, Any] = {}
        self.is_closed = False
        self.targets: dict[str, int] = {}
        self._reader = FrameReader()
        self._loop = asyncio.get_running_loop()
        self._to_resident = Sender(self._loop, Writes(self))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take what the resident answers."""
        for kind, number, body in self._reader.feed(bytes(data)):
            assert kind == ANSWER
            assert number not in self.answers
            self.answers[number] = pickle.loads(body)

    def close(self) -> None:
        """Be closed by the resident."""
        self.is_closed = True
        assert self.resident is not None
        self._loop.call_soon(self.resident.connection_lost, None)

    def send(self, kind: int, number: int, content: object = None) -> None:
        """Send a frame; frames of one step arrive together."""
        self._to_resident.send(kind, number, pickle.dumps(content))

    def call(self, number: int, method: str, *args: Any) -> None:
        """Call a method."""
        if method not in self.targets:
            self.targets[method] = len(self.targets)
            self.send(TARGET, self.targets[method], target_of(method, Clerk))
        self.send(CALL, number, (self.targets[method], args, {}, None))

    def cancel(self, number: int) -> None:
        """Cancel a call."""
        self.board.cancels += 1
        self.send(CANCEL, number)

    def failure(self, number: int) -> BaseException:
        """Return what a call has failed with."""
        ok, envelope, _ = self.answers[number]
        assert not ok
        failure: BaseException = envelope.opened()
        return failure


class Writes(asyncio.WriteTransport):
    """Brings what is written to the resident."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand it over."""
        assert self._line.resident is not None
        self._line.resident.data_received(bytes(data))


async def moved_in(make: Any = Clerk, *args: Any) -> tuple[Line, asyncio.Task[None]]:
    """Return the line to a resident, and its main task."""
    line = Line()
    line.resident = resident = Resident(line.board, 5.0)
    resident.connection_made(line)
    main = asyncio.create_task(resident.serve(Parcel((make, args, {}, 0, "w"))))
    await asyncio.sleep(0.001)
    return line, main


async def test_a_resident_says_when_it_is_up_and_answers_until_it_is_stopped() -> None:
    """Calls are answered with their own numbers."""
    line, main = await moved_in()

    line.call(1, "add", 1)
    line.call(2, "add_later", 2)
    line.call(3, "add", 3)
    await asyncio.sleep(1)
    line.send(STOP, 4)
    await main

    assert line.answers == {UP: (True, None, ()), **{n: (True, n + 1, ()) for n in (1, 2, 3)}} | {
        4: (True, None, ())
    }
    assert line.is_closed
    assert line.board.begun == 3
    assert line.board.running == 0


async def test_what_start_raises_is_said_and_ends_the_process() -> None:
    """Nothing is left to do."""
    line, main = await moved_in(Broken)

    await main

    assert isinstance(line.failure(UP), OSError)
    assert line.is_closed


async def test_what_cannot_be_opened_is_said() -> None:
    """A class that cannot be imported, for example."""
    line = Line()
    line.resident = resident = Resident(line.board, 5.0)
    resident.connection_made(line)

    await resident.serve(pickle.loads(pickle.dumps(Parcel((Clerk, (Bomb(),), {}, 0, "w")))))

    assert isinstance(line.failure(UP), ValueError)


async def test_a_call_that_is_cancelled_before_it_begins_is_skipped() -> None:
    """All that came in one step: the method is never called."""
    line, _ = await moved_in()

    line.call(1, "note", "first")
    line.call(2, "note", "second")
    line.cancel(2)
    line.call(3, "told")
    await asyncio.sleep(1)

    assert isinstance(line.failure(2), asyncio.CancelledError)
    assert line.answers[3][1][3] == ["first"]


async def test_no_call_begins_while_a_cancel_is_on_its_way() -> None:
    """It may be meant; the rest waits for it, and is begun then."""
    line, _ = await moved_in()

    line.board.cancels += 1
    line.call(1, "add", 1)
    line.call(2, "add", 2)
    await asyncio.sleep(1)
    begun, answered = line.board.begun, len(line.answers)
    line.send(CANCEL, 2)
    await asyncio.sleep(1)

    assert (begun, answered) == (0, 1)
    assert line.answers[1][1] == 2
    assert isinstance(line.failure(2), asyncio.CancelledError)


async def test_an_async_call_is_cancelled_even_before_its_first_step() -> None:
    """Without a warning about what was never awaited."""
    line, _ = await moved_in()

    line.call(1, "add_later", 1, 100)
    line.cancel(1)
    line.call(2, "add_later", 1, 100)
    await asyncio.sleep(1)
    line.cancel(2)
    line.cancel(99)
    await asyncio.sleep(1)

    assert isinstance(line.failure(1), asyncio.CancelledError)
    assert isinstance(line.failure(2), asyncio.CancelledError)


async def test_a_call_that_has_ended_takes_no_notice_of_its_cancel() -> None:
    """And the next one is begun."""
    line, _ = await moved_in()

    line.call(1, "add", 1)
    await asyncio.sleep(1)
    line.cancel(1)
    line.call(2, "add", 2)
    await asyncio.sleep(1)

    assert [line.answers[n][1] for n in (1, 2)] == [2, 3]


async def test_sync_calls_that_take_long_let_the_loop_look_after_the_others() -> None:
    """One that is async and done says so between two of them."""
    line, _ = await moved_in()

    line.call(1, "add_later", 1, 0)
    for number in range(2, 8):
        line.call(number, "note", "slow", 0.003)
    await asyncio.sleep(1)

    assert [*line.answers].index(1) < 6
    assert [number for number in line.answers if number > 1] == [2, 3, 4, 5, 6, 7]


async def test_what_cannot_be_pickled_or_unpickled_fails_its_call_alone() -> None:
    """Arguments, results and targets."""
    line, _ = await moved_in()

    line.call(1, "add", Bomb())
    line.call(2, "unpicklable")
    line.send(TARGET, 77, Bomb())
    line.send(CALL, 3, (77, (), {}, None))
    line.call(4, "add", 1)
    await asyncio.sleep(1)

    assert "arguments cannot be unpickled" in str(line.failure(1))
    assert "result cannot be pickled" in str(line.failure(2))
    assert isinstance(line.failure(3), ValueError)
    assert line.answers[4][1] == 2


async def test_a_ping_is_answered_with_the_workers_health() -> None:
    """Even while calls are under way."""
    line, _ = await moved_in()

    line.call(1, "add_later", 1, 100)
    line.send(PING, 2)
    await asyncio.sleep(1)

    assert line.answers[2] == (True, True, ())


async def test_a_resident_whose_pool_has_gone_stops_its_worker_and_ends() -> None:
    """Calls are cancelled; nobody waits for them."""
    line, main = await moved_in()
    assert line.resident is not None

    line.call(1, "add_later", 1, 100)
    await asyncio.sleep(1)
    line.resident.connection_lost(None)
    await main

    assert isinstance(line.failure(1), asyncio.CancelledError)
