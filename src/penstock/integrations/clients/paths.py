"""Which methods of a client are covered: ``only=`` as dotted paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

from penstock.errors import ConfigError

__all__ = ["ENDINGS", "covering"]

Path = tuple[str, ...]

# They end what the client holds. Under a policy an open circuit would keep it open.
ENDINGS = frozenset(("aclose", "close", "disconnect", "wait_closed"))

_MISSING: Any = object()


def covering(
    where: str, client: Any, only: Iterable[str] | None, detours: frozenset[str]
) -> Callable[[Path], bool]:
    """Return what answers whether the method at a path is covered.

    Args:
        where: How messages begin.
        client: What has the paths.
        only: What the user chose; None for every method but those that close the client.
        detours: Names that a path is read without.

    Raises:
        ConfigError: ``only`` is no list of paths, or has one that the client does not have.
    """
    if only is None:
        return lambda path: path[-1] not in ENDINGS
    given: Any = only
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        _refuse(where, f"'only' must be a list of dotted paths; got {given!r}")
    exact: set[Path] = set()
    below: set[Path] = set()
    for text in given:
        if not isinstance(text, str) or not text:
            _refuse(where, f"'only' must be a list of dotted paths; it has {text!r}")
        path = tuple(text.split("."))
        _check(where, client, path)
        if path[-1] == "*":
            below.add(path[:-1])
        else:
            exact.add(tuple(name for name in path if name not in detours))
    if not exact and not below:
        _refuse(where, "'only' must not be empty; leave it out to cover every method")

    def covers(path: Path) -> bool:
        direct = tuple(name for name in path if name not in detours)
        return direct in exact or any(direct[: len(start)] == start for start in below)

    return covers


def _check(where: str, client: Any, path: Path) -> None:
    owner = client
    for place, name in enumerate(path):
        if name == "*" and place == len(path) - 1:
            return
        found = getattr(owner, name, _MISSING)
        if found is _MISSING:
            near = get_close_matches(name, dir(owner), n=1, cutoff=0.5)
            nearest = ".".join((*path[:place], *near))
            advice = f"; did you mean {nearest!r}?" if near else ""
            _refuse(where, f"the client has no {'.'.join(path)!r}{advice}")
        owner = found
    if not callable(owner):
        text = ".".join(path)
        _refuse(where, f"{text!r} is no method; for all that is below it: '{text}.*'")


def _refuse(where: str, why: str) -> NoReturn:
    raise ConfigError(f"{where}: {why}")
