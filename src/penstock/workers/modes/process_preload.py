"""Imported by the fork server alone: brings what every worker process needs, once for all.

Python's own preloading (3.11 to 3.13) neither knows the program's path nor imports its main module:
each process would import that anew, and a restart would take as long as the program's imports.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from contextlib import suppress
from importlib import import_module
from multiprocessing import spawn

# Everything that a worker process imports of ours.
from penstock.workers.modes.process_child import live

__all__ = ["TOLD_BY", "live", "needs_of"]

TOLD_BY = "PENSTOCK_PRELOAD"
"""The environment variable by which the fork server is told."""


def needs_of(module: str | None) -> str:
    """Return what the fork server is told.

    Args:
        module: Where the workers' class is.
    """
    prepared = spawn.get_preparation_data("")
    named = (module, prepared.get("init_main_from_name"))
    wanted = [name for name in named if name is not None and "__m" not in name]
    main = prepared.get("init_main_from_path")
    return json.dumps({"path": sys.path, "main": main, "modules": wanted})


def _bring(told: str) -> None:
    needs = json.loads(told)
    sys.path[:] = needs["path"]
    process = multiprocessing.current_process()
    # As it is in a process that starts: a program without a guard must not start more.
    vars(process)["_inheriting"] = True
    try:
        if needs["main"]:
            spawn.import_main_path(needs["main"])
        for name in needs["modules"]:
            import_module(name)
    finally:
        vars(process).pop("_inheriting", None)


_told = os.environ.pop(TOLD_BY, None)
if _told is not None:
    # Each process tries again, and says there what is wrong.
    with suppress(BaseException):
        _bring(_told)
