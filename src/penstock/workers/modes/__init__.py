"""Where workers live: one file per mode, found when a pool first uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from penstock.workers.engine import Mode
from penstock.workers.options import WorkerPoolOptions

__all__ = ["check_mode", "leave_mode", "mode_of"]

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


def check_mode(
    options: WorkerPoolOptions,
    make: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    """Refuse workers that their mode cannot make, while the pool is built.

    Raises:
        ConfigError: An option is not allowed in the mode.
        ImportError: The mode needs a package that is not installed; the extra is named.
        TypeError: What makes a worker cannot be sent to where it would live.
    """
    mode = mode_of(options.mode)
    check_options = getattr(mode, "check_options", None)
    if check_options is not None:
        check_options(options)
    check = getattr(mode, "check", None)
    if check is not None:
        check(make, args, kwargs)


async def leave_mode(options: WorkerPoolOptions) -> None:
    """Give back what the workers of a pool had in common, after the last of them has ended."""
    left = getattr(mode_of(options.mode), "left", None)
    if left is not None:
        await left(options)
