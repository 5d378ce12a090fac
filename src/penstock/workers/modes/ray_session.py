"""Ray as this program uses it: connected for the first pool, and left after the last."""

from __future__ import annotations

import threading
from typing import Any

from penstock.workers.modes.ray_api import ray
from penstock.workers.options import WorkerPoolOptions

__all__ = ["enter", "leave"]

_lock = threading.Lock()

# By identity: the pools that need what was begun here.
_users: dict[int, WorkerPoolOptions] = {}

# The job that Ray was connected as, where that was done here.
_job: Any = None


def enter(options: WorkerPoolOptions) -> None:
    """Connect to Ray for a pool, unless the program is connected. It takes seconds.

    Without an address Ray takes what ``RAY_ADDRESS`` names, else the cluster that runs on this
    machine, else it starts one.
    """
    global _job  # noqa: PLW0603 - there is one Ray in a program
    with _lock:
        if not ray.is_initialized():
            ray.init(address=options.ray_address)
            _job = _current_job()
            _users.clear()
        if _job is not None:
            _users[id(options)] = options


def leave(options: WorkerPoolOptions) -> None:
    """Disconnect from Ray if that was connected here and no other pool needs it."""
    global _job  # noqa: PLW0603 - as above
    with _lock:
        _users.pop(id(options), None)
        if _job is None or _users:
            return
        # Whoever has connected anew meanwhile keeps that.
        if ray.is_initialized() and _current_job() == _job:
            ray.shutdown()
        _job = None


def _current_job() -> Any:
    return ray.get_runtime_context().get_job_id()
