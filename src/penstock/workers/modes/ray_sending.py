"""What can be sent to an actor, and what Ray's errors mean."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from penstock.errors import RemoteError, WorkerDiedError
from penstock.workers.modes.ray_api import cloudpickle, exceptions, inspect_serializability, ray
from penstock.workers.options import WorkerPoolOptions

__all__ = [
    "ENDS",
    "check_actor_options",
    "check_arguments",
    "check_sendable",
    "dumps",
    "read_error",
    "why_it_ended",
]

dumps: Callable[[Any], bytes] = cloudpickle.dumps
"""Pickles as Ray does: what a script has defined itself is sent by value."""

# What the pool decides itself: one worker is one actor, and supervision is not Ray's.
_OURS = (
    "concurrency_groups",
    "get_if_exists",
    "lifetime",
    "max_concurrency",
    "max_restarts",
    "max_task_retries",
    "name",
)

ENDS: tuple[type[BaseException], ...] = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
)
"""Errors of Ray's that say that the actor is no more, or cannot be reached."""

# Words of Ray's reports, and ours. The first that occurs counts.
_REASONS = (
    ("NODE_OUT_OF_MEMORY", "out of memory"),
    ("running low on memory", "out of memory"),
    ("node has died", "its node ended"),
    ("node was terminated", "its node ended"),
    ("unavailable", "not to be reached"),
)


def check_actor_options(options: WorkerPoolOptions) -> None:
    """Refuse options of actors that Ray does not know, or that are the pool's to decide.

    Raises:
        ConfigError: One of them.
    """
    given = options.ray_options or {}
    for name in _OURS:
        if name in given:
            raise options.refuse("ray_options", name, "no option that the pool itself sets")
    try:
        ray.remote(_Any).options(**given)
    except (TypeError, ValueError) as error:
        raise options.refuse("ray_options", dict(given), f"what Ray takes: {error}") from error


def check_sendable(
    make: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuse what cannot be sent to the actor that it makes a worker in.

    Raises:
        TypeError: It cannot be pickled; what keeps it from that is named.
    """
    _check("workers", getattr(make, "__qualname__", type(make).__qualname__), make)
    check_arguments("workers", args, kwargs)


def check_arguments(who: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that cannot be sent to an actor.

    Raises:
        TypeError: One cannot be pickled; what keeps it from that is named.
    """
    for place, value in enumerate(args):
        _check(who, f"argument {place}", value)
    for name, value in kwargs.items():
        _check(who, f"argument {name!r}", value)


def read_error(error: BaseException, worker: str, operation: str) -> BaseException:
    """Return what an error of Ray's means for a call.

    Args:
        error: What the call of the actor has failed with.
        worker: The worker's id.
        operation: What was called.
    """
    if isinstance(error, ENDS):
        died = WorkerDiedError(f"{worker} ended during {operation}: {why_it_ended(error)}")
        died.__cause__ = error
        return died
    if isinstance(error, exceptions.RayTaskError):
        # What the method raises comes as a value. So this is about what it was given or returned.
        cause: BaseException = getattr(error, "cause", error)
        text = f"an argument or the result of {operation} cannot be sent: {cause}"
        if isinstance(cause, TypeError):
            return TypeError(text)
        kind = type(cause)
        name = f"{kind.__module__}.{kind.__qualname__}"
        return RemoteError(text, type_name=name, traceback_text=str(error))
    return error


def why_it_ended(error: BaseException) -> str:
    """Return in a few words why an actor has ended."""
    text = str(error)
    return next((reason for words, reason in _REASONS if words in text), "died")


def _check(who: str, what: str, value: Any) -> None:
    # A reference is sent as it is, and Ray holds what it refers to.
    if isinstance(value, ray.ObjectRef):
        return
    try:
        dumps(value)
    except Exception as error:
        msg = f"{who}: {what} cannot be sent to a Ray actor{_inside(value, what)}: {error}"
        raise TypeError(msg) from error


def _inside(value: Any, what: str) -> str:
    try:
        _, found = inspect_serializability(value, what, print_file=io.StringIO())
    except Exception:  # noqa: BLE001 - it looks into objects of any kind, and may trip over one
        return ""
    # The path begins with what was looked at; an older Ray names its end alone.
    paths = {tuple(getattr(part, "path", ()))[1:] or (getattr(part, "name", ""),) for part in found}
    names = sorted({".".join(map(str, path)) for path in paths} - {what, ""})
    return f" because of {', '.join(map(repr, names))}" if names else ""


class _Any:
    """Any class, for Ray to read options with."""
