"""A worker process does not outlive the program that it works for."""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import connection, parent_process

__all__ = ["end_with_parent"]


def end_with_parent(grace: float) -> None:
    """End this process when its parent has gone.

    Args:
        grace: Seconds for the worker to leave by itself before that.
    """
    # A method that hangs would keep the process for ever, for it reads nothing.
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, name="penstock parent watch", daemon=True).start()
