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

    def __init__(self, method: Callable[[str], Callable[..., Any]], kind: str) -> None:
        self._method = method
        self._kind = kind

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(f"jobs call public methods of {self._kind}; got {name!r}")
        try:
            found = self._method(name)
        except TypeError as refused:
            raise AttributeError(str(refused)) from None
        # From now on it is found without asking.
        self.__dict__[name] = found
        return found

    def __repr__(self) -> str:
        return f"<workers of {self._kind}>"
