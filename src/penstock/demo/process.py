"""The demo's server as a process: started, and ended in every case."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["demo_server"]

# Serving one more request takes milliseconds; a server that needs longer is stuck.
_SECONDS_TO_END = 3.0


@contextmanager
def demo_server(seed: int, calls: int) -> Generator[str, None, None]:
    """Run the server while the block runs, and yield its base URL.

    Args:
        seed: Which script it plays.
        calls: How many calls the script is for, from 1.

    Raises:
        RuntimeError: It did not start.
    """
    command = [sys.executable, "-m", "penstock.demo.server"]
    process = subprocess.Popen(  # noqa: S603 - our own program, with two numbers
        [*command, f"--seed={seed}", f"--calls={calls}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield f"http://127.0.0.1:{_port_of(process)}"
        finally:
            _end(process)


def _port_of(process: subprocess.Popen[str]) -> int:
    line = process.stdout.readline() if process.stdout else ""
    if not line.strip().isdigit():
        msg = "the demo's server did not start; its own message stands above"
        raise RuntimeError(msg)
    return int(line)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
    except BaseException:
        # A second Ctrl-C: no more patience, but no process left either.
        process.kill()
        raise
