"""Frames survive whatever a stream does to them; the board holds three numbers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.testing import run
from penstock.workers.modes.process_board import Board, new_memory
from penstock.workers.modes.process_frames import ANSWER, CALL, FrameReader, Sender

FRAMES = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary()))


class Transport(asyncio.WriteTransport):
    """Keeps what is written, and whether it was cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written.append(bytes(data))

    def abort(self) -> None:
        """Note it."""
        self.is_aborted = True


def sent(frames: list[tuple[int, int, bytes]]) -> bytes:
    """Return frames as they are written."""

    async def main() -> bytes:
        transport = Transport()
        sender = Sender(asyncio.get_running_loop(), transport)
        for frame in frames:
            sender.send(*frame)
        await asyncio.sleep(0)
        return b"".join(transport.written)

    data: bytes = run(main())
    return data


@given(FRAMES, st.data())
def test_frames_arrive_as_they_were_sent_wherever_the_stream_is_cut(
    frames: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    """Byte by byte or all at once."""
    stream, reader = sent(frames), FrameReader()
    arrived: list[tuple[int, int, bytes]] = []

    while stream:
        size = data.draw(st.integers(1, len(stream)))
        for kind, number, body in reader.feed(stream[:size]):
            arrived.append((kind, number, bytes(body)))
        stream = stream[size:]

    assert arrived == frames


@pytest.mark.virtual_time
async def test_frames_of_one_step_are_written_at_once() -> None:
    """One write costs as much as a hundred calls."""
    transport = Transport()
    sender = Sender(asyncio.get_running_loop(), transport)

    for number in range(100):
        sender.send(CALL, number, b"x")
    before = len(transport.written)
    await asyncio.sleep(0)

    assert before == 0
    assert len(transport.written) == 1


@pytest.mark.virtual_time
async def test_a_large_body_is_not_joined_to_the_others() -> None:
    """It would be copied once more; the order stays."""
    transport = Transport()
    sender = Sender(asyncio.get_running_loop(), transport)

    sender.send(CALL, 1, b"small")
    sender.send(CALL, 2, bytes(100_000))
    sender.send(CALL, 3, b"last")
    await asyncio.sleep(0)

    numbers = [number for _, number, _ in FrameReader().feed(b"".join(transport.written))]
    assert numbers == [1, 2, 3]
    assert len(transport.written) == 3


@pytest.mark.virtual_time
async def test_a_frame_that_is_sent_now_comes_after_those_that_wait() -> None:
    """Nothing is overtaken."""
    transport = Transport()
    sender = Sender(asyncio.get_running_loop(), transport)

    sender.send(ANSWER, 1, b"waits")
    sender.send_now(ANSWER, 2, b"now")

    frames = FrameReader().feed(b"".join(transport.written))
    assert [number for _, number, _ in frames] == [1, 2]


@pytest.mark.virtual_time
async def test_what_was_not_written_is_dropped_when_the_line_is_cut() -> None:
    """Nobody reads it any more."""
    transport = Transport()
    sender = Sender(asyncio.get_running_loop(), transport)

    sender.send(CALL, 1)
    sender.abort()
    await asyncio.sleep(0)

    assert transport.written == []
    assert transport.is_aborted


def test_both_sides_of_a_board_see_what_is_written() -> None:
    """Each number is written by one of them."""
    import os  # noqa: PLC0415 - for one call

    memory = new_memory()
    ours, theirs = Board(os.dup(memory)), Board(memory)

    theirs.begun, theirs.running, ours.cancels = 7, 2**63, 3

    assert (ours.begun, ours.running, theirs.cancels) == (7, 2**63, 3)
    ours.close()
    theirs.close()
