"""Arguments that are used up when they are sent: files are wound back, others are sent once.

A client that is called again with a file at its end would send nothing, and succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from penstock.integrations.clients.bound import drop

__all__ = ["Bodies", "bodies_of"]

# What most arguments are, and no file.
_PLAIN = frozenset((str, bytes, bytearray, int, float, bool, dict, type(None)))

# A list of files, each with its name and type: that is as deep as clients take them.
_DEPTH = 3


class Bodies:
    """The arguments of one call that are used up, and where each of them began."""

    __slots__ = ("_began",)

    def __init__(self, bodies: Iterable[Any]) -> None:
        self._began = [(body, _position(body)) for body in bodies]

    def rewind(self) -> bool:
        """Wind everything back to where it was; return False where that cannot be done."""
        try:
            for body, position in self._began:
                if position is None:
                    return False
                body.seek(position)
        except (OSError, ValueError):
            # It was closed, or can no longer be moved.
            return False
        return True


def bodies_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bodies | None:
    """Return the files, generators and other iterators among arguments; None without any."""
    found = [*_found(args, _DEPTH), *_found(kwargs.values(), _DEPTH)]
    return Bodies(found) if found else None


def _found(values: Iterable[object], depth: int) -> Iterator[object]:
    for value in values:
        kind = type(value)
        if kind in _PLAIN or issubclass(kind, type):
            continue
        if isinstance(value, list | tuple):
            if depth > 1:
                yield from _found(cast("Iterable[object]", value), depth - 1)
        elif hasattr(kind, "__next__") or hasattr(kind, "__anext__") or _is_file(value):
            yield value


def _is_file(value: object) -> bool:
    # A file has both; a path has neither, and a response has no place to be written to or left.
    return callable(getattr(value, "read", None)) and hasattr(value, "close")


def _position(body: Any) -> int | None:
    seekable = getattr(body, "seekable", None)
    if not callable(seekable):
        return None
    try:
        answer = seekable()
        if answer is not True:
            drop(answer)
            return None
        position: int = body.tell()
    except (OSError, ValueError):
        return None
    return position
