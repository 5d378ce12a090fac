"""A server and two proxies that misbehave as told, for clients of aiohttp.

``python -m tests.integrations.servers.aio`` prints four ports: of the server, of the same server
under another origin, and of two proxies, which answer by themselves instead of passing on.

``POST /script/<id>`` sets what ``/do/<id>`` answers, a list of steps of which the last is repeated;
``GET /log/<id>`` returns what has come for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Any

from aiohttp import web

from tests.integrations.serving import stdin_ends, tell

Step = dict[str, Any]


class Scripted:
    """Answers from scripts, and keeps what it was asked.

    A step may have ``status``, ``headers``, ``body``; ``delay`` before all of it; ``chunks``, which
    are texts to send, seconds to wait, or "break"; ``reset`` or ``raw`` instead of an answer;
    ``unread`` to answer before the body of the request was read; ``goes_to`` for a redirect.
    """

    def __init__(self) -> None:
        self.steps: dict[str, list[Step]] = {}
        self.log: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.open = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method == "CONNECT":
            return web.Response(status=407)
        what, _, name = request.path.strip("/").partition("/")
        if what == "script":
            self.steps[name] = await request.json()
            return web.Response()
        if what == "log":
            return web.json_response(self.log[name])
        if what == "open":
            return web.json_response(self.open)
        self.open += 1
        try:
            return await self._do(request, name)
        finally:
            self.open -= 1

    async def _do(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        steps = self.steps.get(name, [{}])
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        entry = {"method": request.method, "headers": dict(request.headers), "body": None}
        entry["port"] = request.transport.get_extra_info("sockname")[1]
        self.log[name].append(entry)
        if not step.get("unread"):
            if "Expect" in request.headers:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                entry["body"] = (await request.read()).decode()
        await asyncio.sleep(step.get("delay", 0))
        if step.get("reset"):
            request.transport.abort()
        if "raw" in step:
            request.transport.write(step["raw"].encode())
            request.transport.close()
        if step.get("upgrade"):
            return await _echo(request)
        return await _answered(request, step)


async def _answered(request: web.BaseRequest, step: Step) -> web.StreamResponse:
    headers, status = step.get("headers", {}), step.get("status", 200)
    if "goes_to" in step:
        return web.Response(status=status, headers={**headers, "Location": step["goes_to"]})
    if "chunks" not in step:
        return web.Response(status=status, headers=headers, text=step.get("body", "well"))
    response = web.StreamResponse(status=status, headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    for chunk in step["chunks"]:
        if chunk == "break":
            request.transport.close()
        elif isinstance(chunk, str):
            await response.write(chunk.encode())
        else:
            await asyncio.sleep(chunk)
    return response


async def _echo(request: web.BaseRequest) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def main() -> None:
    """Serve until stdin ends."""
    runner = web.ServerRunner(web.Server(Scripted(), access_log=None), shutdown_timeout=0)
    await runner.setup()
    sites = [web.TCPSite(runner, "127.0.0.1", 0) for _ in range(4)]
    for site in sites:
        await site.start()
    ports = [site._server.sockets[0].getsockname()[1] for site in sites]
    tell(" ".join(map(str, ports)))
    await stdin_ends()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
