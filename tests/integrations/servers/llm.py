"""A service that speaks as OpenAI, Anthropic and Google do, and misbehaves by script.

``POST /script/<id>`` takes steps by key, ``"*"`` for any::

    {"key-a": [{"status": 429, "headers": {"retry-after": "20"}}, {"slow": 0.2}], "*": [{}]}

Clients of that script have ``<server>/s/<id>/v1`` (or whatever their SDK wants) as base URL. Each
request takes the next step of its key; without one it is answered well. ``GET /seen/<id>`` returns
the requests so far. A step may have

- ``status``, ``error`` (``type``, ``code``, ``message``), ``headers``: an answer; 200 is a good one
- ``body``: what is sent in place of a body, as text
- ``slow``: seconds before the answer begins
- ``reset``: ``"at once"``, or ``"after a byte"`` of the answer
- ``cut``: True closes in the middle of the body
- ``items``: how many events of a stream are sent, and ``then`` what follows them: ``"reset"``,
  ``"cut"``, ``"hang"`` or an error, which is sent as an event
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import defaultdict
from typing import Any

from tests.integrations.servers import llm_answers as answers
from tests.integrations.serving import stdin_ends, tell

Json = dict[str, Any]

_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")
_HANGS = 30


class HangupError(Exception):
    """The connection is given up."""


class Service:
    """All scripts, and what was asked of each."""

    def __init__(self) -> None:
        self.scripts: dict[str, dict[str, list[Json]]] = {}
        self.seen: dict[str, list[Json]] = defaultdict(list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while (request := await _request(reader)) is not None:
                await self.answer(request, writer)
        except (HangupError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, request: Json, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        match request["path"].split("?")[0].split("/")[1:]:
            case ["script", name]:
                self.scripts[name] = request["body"]
                await _send(writer, 200, {}, b"{}")
            case ["seen", name]:
                await _send(writer, 200, {}, json.dumps(self.seen[name]).encode())
            case ["s", name, *_]:
                await self.act(name, request, writer)
            case _:
                await _send(writer, 404, {}, b"{}")

    async def act(self, name: str, request: Json, writer: asyncio.StreamWriter) -> None:
        """Do what the script says."""
        self.seen[name].append(request)
        steps = self.scripts.get(name, {})
        left = steps.get(request["key"]) or steps.get("*") or [{}]
        step = left.pop(0)
        await asyncio.sleep(step.get("slow", 0))
        if step.get("reset") == "at once":
            _reset(writer)
        dialect, status = answers.dialect_of(request["path"]), step.get("status", 200)
        body: Json = answers.good(dialect, request["key"])
        if status >= 400:
            body = answers.bad(dialect, status, step.get("error", {}))
        elif status == 200 and request["streams"]:
            await _stream(writer, dialect, request["key"], step)
            return
        data = step["body"].encode() if "body" in step else json.dumps(body).encode()
        await _send(writer, status, step.get("headers", {}), data, step)


async def _request(reader: asyncio.StreamReader) -> Json | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines if line)}
    path = first.split(" ")[1]
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    is_file = "multipart" in headers.get("content-type", "")
    body = {"size": len(data)} if is_file else json.loads(data or b"{}")
    key = next((headers[name] for name in _KEY_HEADERS if name in headers), "")
    return {
        "path": path,
        "key": key.removeprefix("Bearer "),
        "streams": body.get("stream") is True or "streamGenerate" in path,
        "headers": headers,
        "body": body,
    }


async def _send(
    writer: asyncio.StreamWriter, status: int, headers: Json, body: bytes, step: Json | None = None
) -> None:
    step = step or {}
    own = {"content-type": "application/json", "content-length": str(len(body))}
    _head(writer, status, own | headers)
    if step.get("reset") == "after a byte":
        writer.write(body[:1])
        await writer.drain()
        _reset(writer)
    if step.get("cut"):
        writer.write(body[: len(body) // 2])
        raise HangupError
    writer.write(body)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, dialect: str, key: str, step: Json) -> None:
    own = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
    _head(writer, 200, own | step.get("headers", {}))
    events = answers.events(dialect, key)
    for event in events[: step.get("items", len(events))]:
        _chunk(writer, event)
        await writer.drain()
    match step.get("then"):
        case "reset":
            # What was sent before must be read before: a reset throws away what is on its way.
            await asyncio.sleep(0.05)
            _reset(writer)
        case "cut":
            raise HangupError
        case "hang":
            await asyncio.sleep(_HANGS)
        case dict() as error:
            _chunk(writer, answers.error_event(dialect, error))
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _head(writer: asyncio.StreamWriter, status: int, headers: Json) -> None:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset: what a crashed process or a firewall does."""
    held: socket.socket = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise HangupError


async def main() -> None:
    """Serve until nobody needs it any longer."""
    server = await asyncio.start_server(Service().serve, "127.0.0.1", 0)
    tell(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await stdin_ends()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
