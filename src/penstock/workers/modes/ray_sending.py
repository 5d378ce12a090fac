"""What can be sent to an actor, and what Ray's errors mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from penstock.errors import RemoteError, WorkerDiedError
from penstock.workers.modes.process_parcel import parts_of
from penstock.workers.modes.ray_api import cloudpickle, exceptions, ray
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

# A chain of attributes that is longer is a structure, in which a name no longer helps.
_DEEPEST = 8

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


def _check(who: str, name: str, value: Any) -> None:
    failure = _refusal(value)
    if failure is not None:
        found, why = _culprit(name, value, failure)
        raise TypeError(f"{who}: {found} cannot be sent to a Ray actor: {why}") from failure


def _refusal(value: Any) -> Exception | None:
    # A reference is sent as it is, and Ray holds what it refers to.
    if isinstance(value, ray.ObjectRef):
        return None
    try:
        dumps(value)
    except Exception as failure:  # noqa: BLE001 - a class of the user's may raise anything
        return failure
    return None


def _culprit(name: str, value: Any, failure: Exception, depth: int = 0) -> tuple[str, str]:
    # Ray's own search stops at the method through which it came.
    if depth < _DEEPEST:
        for part, inner in [*parts_of(value), *_parts_by_value(value)]:
            cause = _refusal(inner)
            if cause is not None:
                return _culprit(f"{name}{part}", inner, cause, depth + 1)
    return f"{name} ({type(value).__name__})", str(failure)


def _parts_by_value(value: Any) -> list[tuple[str, Any]]:
    # What cloudpickle sends with a function or class that cannot be imported.
    if isinstance(value, FunctionType):
        closed = inspect.getclosurevars(value)
        found = {**closed.nonlocals, **closed.globals}
        return [(f", which uses {name!r}", inner) for name, inner in found.items()]
    if isinstance(value, type):
        return [(f".{name}", inner) for name, inner in vars(value).items() if name[:2] != "__"]
    return []


class _Any:
    """Any class, for Ray to read options with."""
