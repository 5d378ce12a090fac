"""A Celery worker with two processes, which runs the tasks of the recipe and some of the tests'.

``python -m tests.integrations.servers.celery_worker <folder>`` serves what is put into that folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import billiard
from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_ready

from penstock import Policy, RejectedError
from penstock.testing import scripted, takes
from tests.integrations.serving import tell

RECIPE = Path(__file__).parents[3] / "recipes" / "24_celery_task.py"

one = Policy("one").with_retry(2, wait=0).with_timeout(20).with_concurrency(1)
fragile = Policy("fragile").with_breaker(failures=1, recover_after=0.5)


def application(folder: Path) -> Celery:
    """Return the recipe's app, with more tasks, and with files instead of a broker."""
    for name in ("queue", "control", "results"):
        folder.joinpath(name).mkdir(exist_ok=True)
    os.environ["BROKER_URL"] = "filesystem://"
    os.environ["RESULT_URL"] = folder.joinpath("results").as_uri()
    app: Celery = runpy.run_path(str(RECIPE))["app"]
    app.conf.broker_transport_options = {
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.02,
    }
    app.task(name="whereabouts")(whereabouts)
    app.task(name="comes_again", bind=True)(comes_again)
    app.task(name="too_long", soft_time_limit=0.3)(too_long)
    return app


def whereabouts() -> tuple[int, int, str, int]:
    """Return the process, the loop and the thread of a call, and how many attempts it needed."""
    operation = scripted(ConnectionError, takes(0.05))

    async def look() -> tuple[int, int, str]:
        await operation()
        loop = asyncio.get_running_loop()
        return os.getpid(), id(loop), threading.current_thread().name

    return (*one.run_sync(look), len(operation.calls))


def comes_again(self: Task) -> tuple[int, float, float]:
    """Be refused by an open circuit, and return how long it took to come again."""
    if self.request.retries:
        refused_at, retry_after = self.request.headers["refused"]
        fragile.fresh().run_sync(scripted("found"))
        return self.request.retries, time.time() - refused_at, retry_after
    own = fragile.fresh()
    with contextlib.suppress(ConnectionError):
        own.run_sync(scripted(ConnectionError))
    try:
        own.run_sync(scripted("never asked"))
    except RejectedError as refused:
        told = [time.time(), refused.retry_after]
        raise self.retry(
            exc=refused, countdown=refused.retry_after, headers={"refused": told}
        ) from refused
    raise AssertionError


def too_long() -> dict[str, Any]:
    """Be ended by Celery's soft limit, and return what the policy then holds."""
    try:
        one.run_sync(scripted(takes(20)))
    except SoftTimeLimitExceeded:
        by = time.monotonic() + 5
        while one.snapshot()["stages"][2]["in_flight"] and time.monotonic() < by:
            time.sleep(0.01)
    return one.snapshot()


def _end_with_stdin() -> None:
    # Not by ``sys.stdin``: a child that is forked meanwhile would wait for its lock.
    while os.read(0, 1024):
        pass
    # A shut-down by Celery takes five seconds.
    for child in billiard.active_children():
        os.kill(child.pid, signal.SIGKILL)
    os._exit(0)


def main(folder: str) -> None:
    """Run the worker until stdin ends."""
    app = application(Path(folder))
    app.conf.worker_redirect_stdouts = False
    one.run_sync(scripted("as it happens when a module is imported"))
    worker_ready.connect(lambda **_: tell(os.getpid()), weak=False)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    options = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
    app.Worker(concurrency=2, pool="prefork", loglevel="ERROR", quiet=True, **options).start()


if __name__ == "__main__":
    main(sys.argv[1])
