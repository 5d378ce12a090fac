"""Servers in processes of their own, which end with the block or with their parent.

A test asks for one with ``serve("llm")``; the program is ``servers/llm.py``, which prints its port
or URL as its first line and ends when its stdin does: ``tell`` and ``stdin_ends`` are for that.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

__all__ = ["serve", "stdin_ends", "tell"]

ROOT = Path(__file__).parents[2]

# A start takes a second or two; a busy machine gets this long.
START_PATIENCE = 20.0
END_PATIENCE = 3.0


@contextmanager
def serve(
    module: str,
    *args: object,
    env: dict[str, str] | None = None,
    start_patience: float = START_PATIENCE,
) -> Generator[str]:
    """Run ``python -m tests.integrations.servers.<module> *args`` until the block ends.

    Args:
        module: The name of a file in ``servers/``, without its suffix.
        args: The program's arguments; numbers and paths are written as text.
        env: Variables to set or replace in its environment.
        start_patience: Seconds within which it has to print its first line.

    Yields:
        The first line that it printed, without its end: a port or a URL.

    Raises:
        AssertionError: It printed none, or ended with another code than 0; its stderr is in the
            message.
    """
    command = [sys.executable, "-u", "-m", f"tests.integrations.servers.{module}", *map(str, args)]
    with (
        TemporaryFile() as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # Ctrl-C is for the tests, which then end it themselves
        ) as running,
    ):
        assert running.stdin
        assert running.stdout
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(running.stdout, lines), daemon=True)
        reader.start()
        try:
            line = _first(lines, start_patience)
            assert line, f"{module} did not say where it serves: {_text(errors)}"
            yield line
            running.stdin.close()
            code = _ended(running)
            assert code in (0, None), f"{module} ended with code {code}: {_text(errors)}"
        finally:
            running.stdin.close()
            if _ended(running) is None:
                # With what it has started itself; it is not yet reaped, so the number is its own.
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            reader.join(END_PATIENCE)


def tell(line: object) -> None:
    """Print where this program serves."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def stdin_ends() -> None:
    """Wait until stdin does: the test is over, or the process that ran it is gone."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        # Not by ``sys.stdin``: a child that is forked meanwhile would wait for its lock.
        while os.read(0, 1024):
            pass
        # Closed where the server has ended for another reason.
        if not loop.is_closed():
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()


def _read(stdout: IO[bytes], lines: queue.SimpleQueue[str]) -> None:
    # To its end: a server that prints more must not be stopped by a full pipe.
    for line in stdout:
        lines.put(line.decode(errors="replace").strip())
    lines.put("")


def _first(lines: queue.SimpleQueue[str], patience: float) -> str:
    try:
        return lines.get(timeout=patience)
    except queue.Empty:
        return ""


def _ended(running: subprocess.Popen[bytes]) -> int | None:
    try:
        return running.wait(END_PATIENCE)
    except subprocess.TimeoutExpired:
        return None


def _text(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace")[-4000:] or "nothing on stderr"
