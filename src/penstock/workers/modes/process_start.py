"""Starts worker processes, and ends them whatever happens."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, process, util
from multiprocessing.reduction import DupFd
from typing import Any, cast
from weakref import WeakSet

from penstock.workers.engine import WorkerSpec
from penstock.workers.modes.process_board import Board, new_memory
from penstock.workers.modes.process_parcel import Parcel
from penstock.workers.modes.process_preload import TOLD_BY, live, needs_of

__all__ = ["WorkerProcess", "ending", "started"]

# Starting is not made for several threads at once.
_one_at_a_time = threading.Lock()

# Seconds that a process which was killed may take to go.
_GOING = 1.0

# Those that still run when the program ends are killed; otherwise it would wait for them.
_live: WeakSet[WorkerProcess] = WeakSet()


class WorkerProcess:
    """One process, from its start to its burial; used once.

    Args:
        spec: The worker that lives in it.

    Attributes:
        pid: Its number.
        sentinel: A file descriptor that becomes readable when it has ended.
        sock: Our end of the connection.
        board: What both sides know at once.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        ours, theirs = socket.socketpair()
        memory = new_memory()
        try:
            self.board = Board(os.dup(memory))
            self.sock = ours
            self._process = _start(spec, theirs, memory)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        self._is_buried = False
        self.pid: int = self._process.pid
        self.sentinel: int = self._process.sentinel
        _live.add(self)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the number of the signal that has killed it; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def kill(self) -> None:
        """End it, whatever it is doing."""
        if not self._is_buried and self.exit_code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Give back what is left of it; it has ended, or is killed and waited for."""
        self.kill()
        self._process.join(_GOING)
        _live.discard(self)
        self.sock.close()
        self.board.close()
        # One that cannot be killed (it hangs in the kernel) keeps what belongs to it.
        if self.exit_code is not None:
            self._is_buried = True
            self._process.close()


async def started(spec: WorkerSpec) -> WorkerProcess:
    """Start a process, off the loop: the first one waits for the fork server.

    Where whoever waits for it is cancelled, it is killed as soon as it is there.
    """
    starting = asyncio.get_running_loop().run_in_executor(None, WorkerProcess, spec)
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_bury_late)
        raise


def _bury_late(starting: asyncio.Future[WorkerProcess]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().bury()


def ending(code: int | None) -> tuple[str, str]:
    """Return how a process ended: a short word, and a part of a sentence."""
    if code is None:
        return "gone", "has gone, and does not end"
    if code >= 0:
        return f"exit code {code}", f"ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (as the system does when memory runs out)" if name == "SIGKILL" else ""
    return name, f"was killed by {name}{hint}"


def _start(spec: WorkerSpec, theirs: socket.socket, memory: int) -> Any:
    options = spec.options
    context: Any = multiprocessing.get_context(options.start_method)
    parcel = Parcel((spec.make, spec.args, dict(spec.kwargs), spec.index, spec.id))
    with _one_at_a_time, _preloading(context, spec):
        new = context.Process(
            target=live,
            name=f"{options.name} {spec.id}",
            args=(theirs, _Memory(memory), parcel, options.stop_timeout),
        )
        new.start()
        # Nobody else asks how it has ended: the fork server tells it once. And the program does
        # not wait for it when it ends.
        vars(process)["_children"].discard(new)
    return new


class _Memory:
    """A file descriptor that is sent with a new process."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (DupFd(self._fd),)


def _same(descriptor: Any) -> Any:
    return descriptor


@contextmanager
def _preloading(context: Any, spec: WorkerSpec) -> Generator[None]:
    """Have the fork server import what every worker needs, so that a restart takes no time."""
    known = cast("dict[str, Any]", vars(vars(forkserver)["_forkserver"]))
    if spec.options.start_method != "forkserver" or known["_forkserver_pid"] is not None:
        yield
        return
    # What the program itself wants preloaded stays; its main module is brought by ours.
    kept: list[str] = [name for name in known["_preload_modules"] if name != "__main__"]
    context.set_forkserver_preload([*kept, needs_of.__module__])
    os.environ[TOLD_BY] = needs_of(getattr(spec.make, "__module__", None))
    try:
        yield
    finally:
        del os.environ[TOLD_BY]


def _end_all() -> None:
    for one in [*_live]:
        one.kill()


# Before multiprocessing's own: from 0 on they are called first.
util.Finalize(None, _end_all, exitpriority=100)
