"""``pool.workers``: the workers' methods, as if there were one worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Proxy"]


class Proxy:
    """Stands for the workers of a pool: calling a method gives it to the next worker.

    Args:
        method: Makes the function of a method's name.
        kind: What the workers are, for messages.
    """

    __slots__ = ("_kind", "_method", "_methods")

    def __init__(self, method: Callable[[str], Callable[..., Any]], kind: str) -> None:
        self._method = method
        self._kind = kind
        self._methods: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(f"jobs call public methods of {self._kind}; got {name!r}")
        found = self._methods.get(name)
        if found is None:
            found = self._methods[name] = self._method(name)
        return found

    def __repr__(self) -> str:
        return f"<workers of {self._kind}>"
