"""A Redis or a PostgreSQL on a socket in a folder of its own, both gone when stdin ends.

``python -m tests.integrations.servers.database <redis|postgres> <folder of its programs>``
prints that folder. PostgreSQL refuses to run as root, so there it runs as nobody.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.integrations.serving import stdin_ends, tell

_SPARING = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "jit": "off",
    "shared_buffers": "16MB",
    "max_connections": "12",
    "superuser_reserved_connections": "2",
    "deadlock_timeout": "100ms",
    "listen_addresses": "",
}


async def main(kind: str, programs: str) -> None:
    """Serve until stdin ends."""
    with TemporaryDirectory(prefix="penstock") as folder:
        await (_redis if kind == "redis" else _postgres)(Path(programs), folder)


async def _redis(programs: Path, folder: str) -> None:
    path = Path(folder, "redis.sock")
    options = ["--port", "0", "--unixsocket", str(path), "--dir", folder, "--save", ""]
    allowed = ["--enable-debug-command", "yes", "--enable-protected-configs", "yes"]
    async with _running(programs / "redis-server", *options, *allowed) as server:
        await _serve(server, path.exists, folder)


async def _postgres(programs: Path, folder: str) -> None:
    who = _somebody_else(folder)
    made = ["-D", f"{folder}/data", "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C"]
    async with _running(programs / "initdb", *made, "--encoding=UTF8", cwd=folder, **who) as init:
        if await init.wait():
            raise SystemExit(init.returncode)
    settings = [f"-c{name}={value}" for name, value in _SPARING.items()]
    command = (programs / "postgres", "-D", f"{folder}/data", "-k", folder, *settings)
    async with _running(*command, cwd=folder, **who) as server:
        await _serve(server, lambda: _is_ready(Path(folder, "data", "postmaster.pid")), folder)


def _somebody_else(folder: str) -> dict[str, Any]:
    if os.getuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    shutil.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@asynccontextmanager
async def _running(*command: object, **how: Any) -> AsyncGenerator[Process]:
    running = await asyncio.create_subprocess_exec(*map(str, command), stdout=sys.stderr, **how)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGINT)  # to PostgreSQL: do not wait for who is connected
            await running.wait()


def _is_ready(status: Path) -> bool:
    return status.exists() and status.read_text().rstrip().endswith("ready")


async def _serve(server: Process, is_ready: Callable[[], bool], folder: str) -> None:
    while not is_ready():
        if server.returncode is not None:
            raise SystemExit(server.returncode)
        await asyncio.sleep(0.01)
    tell(folder)
    await stdin_ends()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
