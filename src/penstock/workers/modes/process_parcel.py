"""What a worker is made with, on its way to another process, and what keeps it from going there."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

__all__ = ["Parcel", "check_arguments", "check_sendable", "parts_of"]

# A chain of attributes that is longer is a structure, in which a name no longer helps.
_DEEPEST = 8


class Parcel:
    """Anything that is sent with a new process, and unpickled when that one asks for it.

    So a class that cannot be imported there is an error of the worker's ``start``, and not the end
    of the process.

    Args:
        content: What is sent.
    """

    __slots__ = ("_content",)

    def __init__(self, content: Any) -> None:
        self._content = content

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent with a process: what may only travel so (locks, queues) can be in it."""
        return _Sent, (bytes(ForkingPickler.dumps(self._content)),)

    def opened(self) -> Any:
        """Return what was sent."""
        return self._content


class _Sent:
    """A parcel that has arrived."""

    __slots__ = ("_pickled",)

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def opened(self) -> Any:
        """Return what was sent.

        Raises:
            Exception: Something in it cannot be imported here, for example.
        """
        return pickle.loads(self._pickled)  # noqa: S301 - from the pool that started us


def check_sendable(
    make: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Check that what makes a worker can be sent to another process.

    Raises:
        TypeError: It cannot; the message names what is in the way.
    """
    name = getattr(make, "__qualname__", type(make).__qualname__)
    _check("workers", name, make, "define it at the top of a module")
    check_arguments("workers", args, kwargs, "make it in the worker's start instead")


def check_arguments(
    who: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], advice: str = "send what it is of"
) -> None:
    """Check that arguments can be sent to another process.

    Raises:
        TypeError: One cannot; the message names what is in the way.
    """
    for place, value in enumerate(args):
        _check(who, f"argument {place}", value, advice)
    for name, value in kwargs.items():
        _check(who, f"argument {name!r}", value, advice)


def _check(who: str, name: str, value: Any, advice: str) -> None:
    failure = _refusal(value)
    if failure is not None:
        found, why = _culprit(name, value, failure)
        msg = f"{who}: {found} cannot be pickled, and so not be sent to a process ({why}); {advice}"
        raise TypeError(msg) from failure


class _Nowhere(io.RawIOBase):
    """Takes a pickle and keeps nothing of it: an argument may be a model of gigabytes."""

    def write(self, data: Any, /) -> int:
        return len(data)


def _refusal(value: Any) -> Exception | None:
    """Return what pickling a value raises; None where nothing."""
    try:
        ForkingPickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(value)
    except RuntimeError as failure:
        # Locks and queues of multiprocessing travel with a new process, and in no other way.
        return None if "inheritance" in str(failure) else failure
    except Exception as failure:  # noqa: BLE001 - a class of the user's may raise anything
        return failure
    return None


def _culprit(name: str, value: Any, failure: Exception, depth: int = 0) -> tuple[str, str]:
    """Return the name of the part of a value that cannot be pickled, and why."""
    if depth < _DEEPEST:
        for part, inner in parts_of(value):
            cause = _refusal(inner)
            if cause is not None:
                return _culprit(f"{name}{part}", inner, cause, depth + 1)
    return f"{name} ({type(value).__name__})", str(failure)


def parts_of(value: Any) -> list[tuple[str, Any]]:
    """Return what a value holds, each with what it is called after the value's own name."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", inner) for key, inner in value.items()]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{place}]", inner) for place, inner in enumerate(value)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, type):
        return []
    found = getattr(value, "__self__", None)
    parts: list[tuple[str, Any]] = [] if found is None else [(".__self__", found)]
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and not hasattr(value, "__qualname__"):
        parts += [(f".{key}", inner) for key, inner in held.items()]  # pyright: ignore[reportUnknownVariableType]
    return parts
