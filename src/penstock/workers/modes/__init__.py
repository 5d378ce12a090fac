"""Where workers live: one file per mode, found when a pool first uses it."""

from __future__ import annotations

from importlib import import_module

from penstock.workers.engine import Mode

__all__ = ["mode_of"]

_ENGINES = {
    "asyncio": ("penstock.workers.modes.in_loop", "LoopEngine"),
    "thread": ("penstock.workers.modes.in_thread", "ThreadEngine"),
    "process": ("penstock.workers.modes.in_process", "ProcessEngine"),
    "ray": ("penstock.workers.modes.on_ray", "RayEngine"),
}


def mode_of(word: str) -> Mode:
    """Return what makes the engines of a mode.

    Raises:
        ImportError: The mode needs a package that is not installed; the extra is named.
    """
    module, name = _ENGINES[word]
    mode: Mode = getattr(import_module(module), name)
    return mode
