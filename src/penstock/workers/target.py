"""What a job calls: a method of the worker by its name, or a function that takes the worker."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from penstock.operation import is_async_generator_function, name_of
from penstock.workers.hooks import LIFE_CYCLE

__all__ = ["Target", "target_of"]


class Target:
    """A method or a function, found once for all the jobs that call it.

    Attributes:
        name: The method's name; None for a function that takes the worker.
        function: The function that takes the worker; None for a method.
        operation_name: For people to read.
    """

    __slots__ = ("function", "name", "operation_name", "runs_on")

    def __init__(self, name: str | None, function: Callable[..., Any] | None, shape: Any) -> None:
        self.name = name
        self.function = function
        self.operation_name = name if shape is None and name else name_of(shape)
        # A cancel ends the work, or the engine says what lingers.
        self.runs_on = False

    def of(self, worker: Any) -> Callable[..., Any]:
        """Return what is called on a worker."""
        if self.name is not None:
            return getattr(worker, self.name)  # type: ignore[no-any-return]  # a public method
        assert self.function is not None  # noqa: S101 - one of the two is there
        return partial(self.function, worker)

    def __call__(self, resource: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call it on the worker behind a resource: what the innermost stage starts."""
        return resource.value.serve(self, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as what it names, for other processes."""
        return _rebuilt, (self.name, self.function)


def _rebuilt(name: str | None, function: Callable[..., Any] | None) -> Target:
    return Target(name, function, function)


def target_of(work: Any, kind: type | None) -> Target:
    """Return what a job calls.

    Args:
        work: A method's name, the method as an attribute of the worker's class, or a function that
            takes the worker first.
        kind: The worker's class; None where it is not known.

    Raises:
        TypeError: It is none of these, is the pool's to call, is private, or makes an async
            iterator.
    """
    name: str | None = work if isinstance(work, str) else getattr(work, "__name__", None)
    # Found by its name, so that a subclass's own method is called as in all of Python.
    if work is not name and (kind is None or getattr(kind, name or "", None) is not work):
        return _function(work, kind)
    assert name is not None  # noqa: S101 - one of the two it was
    if name in LIFE_CYCLE:
        raise TypeError(f"{name!r} is the pool's to call; a job calls other methods")
    if name.startswith("_") and name != "__call__":
        raise TypeError(f"a job calls public methods; got {name!r}")
    shape = getattr(kind, name, None)
    if kind is not None and not callable(shape) and not hasattr(kind, "__getattr__"):
        raise TypeError(f"{kind.__qualname__} has no method {name!r}{_instead(name, kind)}")
    _check(shape)
    return Target(name, None, shape)


def _function(work: Any, kind: type | None) -> Target:
    if not callable(work):
        raise TypeError(f"a job is a method or a function of the worker; got {work!r}")
    if kind is not None and isinstance(getattr(work, "__self__", None), kind):
        name = getattr(work, "__name__", "method")
        raise TypeError(
            f"{name!r} is bound to one worker; a job runs on any of them: "
            f"give {kind.__qualname__}.{name} instead"
        )
    _check(work)
    return Target(None, work, work)


def _instead(name: str, kind: type) -> str:
    known = [n for n in dir(kind) if not n.startswith("_") and n not in LIFE_CYCLE]
    near = difflib.get_close_matches(name[:100], known, 3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _check(shape: Any) -> None:
    if shape is not None and is_async_generator_function(shape):
        what = name_of(shape)
        raise TypeError(f"{what!r} makes an async iterator, which one result cannot hold")
