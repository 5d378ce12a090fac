"""An HTTP server on three ports that does to each request what a script says.

``python -m tests.integrations.servers.http`` prints its ports. ``POST /scripts`` with a list of
steps answers with the number of a script; requests to ``/s/<number>`` or below take its steps one
by one, the last one again and again. ``GET /scripts/<number>`` answers with what has arrived. A
request line with a whole URL is one to a proxy, and is treated alike. What goes to any other path
takes the steps of ``POST /scripts/0``.

A step is an object; all of it may be left out:

- ``status`` (200), ``headers``, ``body`` ("ok"; null echoes what has arrived), ``delay`` in seconds
- ``chunks``, ``gap``: the body in chunks, so many seconds apart
- ``cut``: say the whole length, send so many bytes of the body, and close; ``reset`` sends a RST
- ``drop``: close without an answer; ``silent``: never answer
- ``ports``: other steps for the ports from 0, for example ``{"1": {"status": 407}}``
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tests.integrations.serving import stdin_ends, tell

_PORTS = 3


@dataclass
class Script:
    """What is done to the requests of one test, and what they were."""

    steps: list[dict[str, Any]]
    arrived: list[dict[str, Any]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    def next(self, port: int) -> dict[str, Any]:
        """Return the step for the request that has just arrived."""
        step = self.steps[min(len(self.arrived), len(self.steps)) - 1]
        return step.get("ports", {}).get(str(port), step)


_scripts: dict[int, Script] = {}
_numbers = itertools.count(1)


async def main() -> None:
    """Serve until stdin ends."""
    servers = [
        await asyncio.start_server(partial(_serve, port), "127.0.0.1", 0, backlog=1024)
        for port in range(_PORTS)
    ]
    tell(" ".join(str(server.sockets[0].getsockname()[1]) for server in servers))
    await stdin_ends()


async def _serve(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await _answer(port, reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _answer(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    request = await _read(reader)
    request["port"] = port
    _, kind, number, *_ = [*urlsplit(request["target"]).path.split("/"), "", ""]
    if kind == "scripts":
        return await _manage(request, number, writer)
    script = _scripts[int(number) if kind == "s" else 0]
    script.arrived.append(request)
    script.open += 1
    script.most_open = max(script.open, script.most_open)
    try:
        return await _misbehave(request, script.next(port), reader, writer)
    finally:
        script.open -= 1


async def _manage(request: dict[str, Any], number: str, writer: asyncio.StreamWriter) -> bool:
    if request["method"] == "POST":
        script = int(number) if number else next(_numbers)
        _scripts[script] = Script(json.loads(request["body"]))
        answer: Any = script
    else:
        known = _scripts[int(number)]
        answer = {"arrived": known.arrived, "open": known.open, "most_open": known.most_open}
    _head(writer, 200, {"Content-Length": str(len(json.dumps(answer)))})
    writer.write(json.dumps(answer).encode())
    await writer.drain()
    return True


async def _misbehave(
    request: dict[str, Any],
    step: dict[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    await asyncio.sleep(step.get("delay", 0))
    if step.get("silent"):
        await reader.read()
        return False
    if step.get("drop"):
        return False
    said = step.get("body", "ok")
    body = (json.dumps(request) if said is None else said).encode()
    status, headers = step.get("status", 200), step.get("headers", {})
    if "chunks" in step:
        _head(writer, status, {**headers, "Transfer-Encoding": "chunked"})
        for chunk in step["chunks"]:
            data = chunk.encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
            await asyncio.sleep(step.get("gap", 0))
        if "cut" in step:
            return _end(writer, step)
        writer.write(b"0\r\n\r\n")
    elif "cut" in step:
        _head(writer, status, {**headers, "Content-Length": str(len(body))})
        writer.write(body[: step["cut"]])
        await writer.drain()
        # What was sent is to be read before the connection ends.
        await asyncio.sleep(0.05)
        return _end(writer, step)
    else:
        _head(writer, status, {**headers, "Content-Length": str(len(body))})
        writer.write(b"" if request["method"] == "HEAD" else body)
    await writer.drain()
    return True


def _end(writer: asyncio.StreamWriter, step: dict[str, Any]) -> bool:
    if step.get("reset"):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    return False


def _head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = [line.partition(":") for line in head[1:] if line]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return {
        "method": method,
        "target": target,
        "headers": headers,
        "body": (await _body(reader, headers)).decode(),
    }


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


if __name__ == "__main__":
    asyncio.run(main())
