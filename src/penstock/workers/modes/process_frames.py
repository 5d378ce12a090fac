"""What a pool and a worker process send each other: frames of a kind, a number and a body."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from struct import Struct

__all__ = ["ANSWER", "CALL", "CANCEL", "PING", "STOP", "TARGET", "Frame", "FrameReader", "Sender"]

ANSWER, CALL, CANCEL, PING, STOP, TARGET = range(6)
"""Kinds. The number is a call's, or a target's; the body is pickled."""

_HEADER = Struct("<BQQ")

# Larger ones are not copied once more to be sent together with others.
_LARGE = 65536


Frame = tuple[int, int, memoryview]
"""One frame that has arrived: its kind, number and body."""


class FrameReader:
    """Cuts a stream of bytes into frames, however it was cut on its way."""

    __slots__ = ("_missing", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        # How long the rest has to be before there is another frame in it.
        self._missing = 0

    def feed(self, data: bytes) -> Sequence[Frame]:
        """Return the frames that are complete now."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._missing:
                return ()
            self._rest = bytearray()
            return self._cut(memoryview(rest))
        return self._cut(memoryview(data))

    def _cut(self, view: memoryview) -> list[Frame]:
        frames: list[Frame] = []
        begin, end, header = 0, len(view), _HEADER.size
        self._missing = header
        while end - begin >= header:
            kind, number, size = _HEADER.unpack_from(view, begin)
            if end - begin - header < size:
                self._missing = header + size
                break
            begin += header
            frames.append((kind, number, view[begin : begin + size]))
            begin += size
        if begin < end:
            self._rest = bytearray(view[begin:])
        return frames


class Sender:
    """Writes frames to a transport, all those of one step of the loop at once."""

    __slots__ = ("_loop", "_out", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
        self._loop = loop
        self._transport = transport
        self._out: list[bytes] = []

    def send(self, kind: int, number: int, body: bytes = b"") -> None:
        """Write a frame when the loop's step ends."""
        out = self._out
        if not out:
            self._loop.call_soon(self.flush)
        out.append(_HEADER.pack(kind, number, len(body)))
        if len(body) < _LARGE:
            out.append(body)
        else:
            self.flush()
            self._transport.write(body)

    def send_now(self, kind: int, number: int, body: bytes) -> None:
        """Write a frame at once, after those that wait for the end of the step."""
        self.flush()
        self._transport.write(_HEADER.pack(kind, number, len(body)) + body)

    def abort(self) -> None:
        """Close the transport, whatever was not sent."""
        self._out.clear()
        self._transport.abort()

    def flush(self) -> None:
        """Write now what is there."""
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._transport.write(data)
