"""A DynamoDB and an S3 that misbehave as they are told; prints the port.

``PUT /script/<name>`` with a JSON list of steps says how the next requests below ``/<name>`` are
answered, one step each; after them, all is well. ``GET /script/<name>`` returns the requests made
since. A step may have:

- ``status``, ``headers``, ``body``: the answer; 200 and what the request asked for unless given
- ``code``: an error code of AWS, in the form that the service has for it
- ``keys``: the step is for these access keys alone, and stays
- ``cut``: close the connection after so many bytes of the body
- ``wait``: seconds before the answer
"""

from __future__ import annotations

import asyncio
import json
import re
from asyncio import StreamReader, StreamWriter
from collections import defaultdict
from contextlib import suppress
from typing import Any, NamedTuple

from tests.integrations.serving import stdin_ends, tell

OBJECT = b"water " * 20_000
ITEM = {"Item": {"id": {"S": "1"}, "name": {"S": "Pelton"}}}

_KEY = re.compile("Credential=([^/]+)/")

Step = dict[str, Any]


class Request(NamedTuple):
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """The access key that signed it."""
        found = _KEY.search(self.headers.get("authorization", ""))
        return found[1] if found else ""

    @property
    def target(self) -> str:
        """The operation of DynamoDB; empty for S3."""
        return self.headers.get("x-amz-target", "").rpartition(".")[2]


class Service:
    """The scripts, and what was asked since they were set."""

    def __init__(self) -> None:
        self._scripts: defaultdict[str, list[Step]] = defaultdict(list)
        self._seen: defaultdict[str, list[dict[str, str]]] = defaultdict(list)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(await _read(reader, writer), writer):
                pass
        writer.close()

    async def _answer(self, request: Request, writer: StreamWriter) -> bool:
        _, first, *rest = request.path.split("/")
        if first == "script":
            return await _write(writer, {"body": self._script(request, rest[0])})
        seen = {"key": request.key, "target": request.target, "body": request.body.decode()}
        self._seen[first].append(seen)
        step = self._step(first, request.key)
        await asyncio.sleep(step.get("wait", 0))
        return await _write(writer, _filled(step, request))

    def _script(self, request: Request, name: str) -> bytes:
        if request.method == "GET":
            return json.dumps(self._seen[name]).encode()
        self._scripts[name] = json.loads(request.body)
        self._seen[name].clear()
        return b""

    def _step(self, name: str, key: str) -> Step:
        steps = self._scripts[name]
        for step in steps:
            if key in step.get("keys", ()):
                return step
        return steps.pop(0) if steps and "keys" not in steps[0] else {}


def _filled(step: Step, request: Request) -> Step:
    if code := step.get("code"):
        step = {"status": 400, "body": _error(code, request.target), **step}
    if "body" not in step:
        wanted = OBJECT if request.method == "GET" else b""
        step = {**step, "body": json.dumps(ITEM) if request.target else wanted}
    body = step["body"]
    return {**step, "body": body if isinstance(body, bytes) else body.encode()}


def _error(code: str, target: str) -> str:
    if target:
        return json.dumps({"__type": f"com.amazonaws.dynamodb#{code}", "message": "as told"})
    return f"<Error><Code>{code}</Code><Message>as told</Message></Error>"


async def _read(reader: StreamReader, writer: StreamWriter) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    pairs = (line.partition(": ") for line in head[1:] if line)
    headers = {name.lower(): value for name, _, value in pairs}
    if "expect" in headers:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path.partition("?")[0], headers, body)


async def _write(writer: StreamWriter, step: Step) -> bool:
    body: bytes = step["body"]
    headers = {"Content-Length": str(len(body)), **step.get("headers", {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    cut: int | None = step.get("cut")
    writer.write(f"HTTP/1.1 {step.get('status', 200)} As told\r\n{lines}\r\n".encode() + body[:cut])
    await writer.drain()
    return cut is None


async def main() -> None:
    """Serve until stdin ends."""
    server = await asyncio.start_server(Service().serve, "127.0.0.1", 0)
    tell(server.sockets[0].getsockname()[1])
    await stdin_ends()


if __name__ == "__main__":
    asyncio.run(main())
