"""Streams of server-sent events, or of any lines, that end as a test says: HTTP/1.1, chunked.

``python -m tests.integrations.servers.sse`` prints its URL. ``PUT /scripts/<name>`` takes a list of
plays as JSON; each request to ``/<name>/...`` takes the next one, and ``GET /scripts/<name>`` tells
what became of them: the key that came with each, and whether the client read it to its end.

A play is a list of steps:
    ``{"status": 503, "headers": {...}}``: in the first place; 200 without one
    ``{"send": "data: ..."}``: as it is
    ``{"wait": 2}``: until the client leaves, but no longer than that
    ``{"drop": true}``: close the connection in the middle of the body
    ``{"reset": true}``: the same, with a reset
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections import defaultdict
from typing import Any

from tests.integrations.serving import stdin_ends, tell

Step = dict[str, Any]


class Left(Exception):  # noqa: N818 - no error: readers may leave
    """The client has closed the connection."""


class Scripts:
    """What is to be played, and what was."""

    def __init__(self) -> None:
        self.plays: dict[str, list[list[Step]]] = {}
        self.told: defaultdict[str, list[dict[str, str]]] = defaultdict(list)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while request := await _request(reader):
                await self._answer(*request, reader, writer)
        except (Left, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        line: tuple[str, str],
        headers: dict[str, str],
        body: bytes,
        reader: StreamReader,
        writer: StreamWriter,
    ) -> None:
        method, path = line
        parts = path.split("/")
        if parts[1] == "scripts" and method == "PUT":
            self.plays[parts[2]] = json.loads(body)
            await self._play([{"send": "{}"}], reader, writer)
        elif parts[1] == "scripts":
            await self._play([{"send": json.dumps(self.told[parts[2]])}], reader, writer)
        else:
            name = parts[1]
            told = {"key": _key(headers), "ended": "read"}
            self.told[name].append(told)
            plays = self.plays[name]
            try:
                await self._play(plays.pop(0) if plays else [{"status": 418}], reader, writer)
            except Left:
                told["ended"] = "left"
                raise

    async def _play(self, steps: list[Step], reader: StreamReader, writer: StreamWriter) -> None:
        head = steps[0] if steps and "status" in steps[0] else {}
        lines = [f"HTTP/1.1 {head.get('status', 200)} Told", "transfer-encoding: chunked"]
        fields = {"content-type": "text/event-stream", **head.get("headers", {})}
        lines += [f"{name}: {value}" for name, value in fields.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        for step in steps:
            if "send" in step:
                data = step["send"].encode()
                writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                await writer.drain()
            elif "wait" in step:
                await _stays(reader, step["wait"])
            elif "drop" in step:
                raise OSError
            elif "reset" in step:
                await asyncio.sleep(0.02)  # what was sent before is not to be thrown away by it
                held = writer.get_extra_info("socket")
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                raise OSError
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _request(reader: StreamReader) -> tuple[tuple[str, str], dict[str, str], bytes] | None:
    first = (await reader.readline()).decode().split()
    if not first:
        return None
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return (first[0], first[1]), headers, body


async def _stays(reader: StreamReader, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            if not await reader.read(1):
                raise Left
    except TimeoutError:
        return
    except OSError:
        raise Left from None


def _key(headers: dict[str, str]) -> str:
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return bearer or headers.get("x-api-key", "") or headers.get("x-goog-api-key", "")


async def main() -> None:
    """Serve until stdin ends."""
    server = await asyncio.start_server(Scripts().serve, "127.0.0.1", 0)
    tell(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await stdin_ends()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
