"""Serves an app by a real uvicorn on a port that it tells, until stdin ends.

``python -m tests.integrations.servers.uvicorn_server <file.py>[:<name of the app>]``
"""

from __future__ import annotations

import asyncio
import runpy
import sys

import uvicorn

from tests.integrations.serving import stdin_ends, tell


async def main(target: str) -> None:
    """Serve until nobody needs it any longer."""
    path, _, name = target.partition(":")
    app = runpy.run_path(path)[name or "app"]
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    tell(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    ended = asyncio.create_task(stdin_ends())
    await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
