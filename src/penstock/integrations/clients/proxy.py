"""Stand-ins for a client and its parts, which look like them and run their calls under a policy.

What is looked up is kept in the stand-in's own ``__dict__``: from the second time on it is found as
fast as on the client itself.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import CoroutineType, SimpleNamespace
from typing import Any, NoReturn, SupportsIndex
from weakref import WeakKeyDictionary

from penstock.integrations.clients.call import Root
from penstock.integrations.clients.paths import ENDINGS

__all__ = ["stand_in"]

# Of these a client has many, and nobody calls something on them that a policy could run.
_VALUES = (str, bytes, int, float, tuple, list, dict, set, frozenset, BaseException)


def stand_in(root: Root) -> Any:
    """Return what stands for a whole client."""
    return _made(_Place(root, root.client))


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a stand-in stands.

    Attributes:
        root: The client and what it is wrapped with.
        target: What it stands for.
        path: The names that lead from the client to it.
        owner: What has it as an attribute; None for the client itself.
        is_covered: True where its calls run under the policy.
        instead: The path of a method that waits, where this one blocks.
    """

    root: Root
    target: Any
    path: tuple[str, ...] = ()
    owner: Any = None
    is_covered: bool = False
    instead: str | None = None


class _StandIn:
    """Stands for a client, a part of it or a method; all it has of its own is ``_penstock``."""

    _penstock: _Place

    def __init__(self, place: _Place) -> None:
        self.__dict__["_penstock"] = place

    def __getattr__(self, name: str) -> Any:
        place = self._penstock
        found = getattr(place.target, name)
        if name.startswith("_") or not _leads_on(place, found):
            return found
        child = self.__dict__[name] = _made(_below(place, name, found))
        return child

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._penstock.target, name, value)
        self._forget(name)

    def __delattr__(self, name: str) -> None:
        delattr(self._penstock.target, name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self.__dict__.pop(name, None)
        self._penstock.root.changed()

    def __repr__(self) -> str:
        place = self._penstock
        return f"<{place.target!r} under policy {place.root.wrapping.policy.name!r}>"

    def __str__(self) -> str:
        return str(self._penstock.target)

    def __dir__(self) -> list[str]:
        return dir(self._penstock.target)

    def __eq__(self, other: object) -> bool:
        return bool(self._penstock.target == _inside(other))

    def __hash__(self) -> int:
        return hash(self._penstock.target)

    def __penstock_plain__(self, stages: tuple[Any, ...]) -> Any:
        """Return the method without its policy, for a call under the same stages."""
        place = self._penstock
        is_own = bool(place.path) and place.root.wrapping.policy.stages == stages
        return place.root.plain(place.path) if is_own else self

    def __copy__(self) -> Any:
        return _again(self, copy.copy(self._penstock.target))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _again(self, copy.deepcopy(self._penstock.target, memo))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a wrapped client cannot be pickled: wrap one where it is used")


def _inside(value: Any) -> Any:
    return value._penstock.target if issubclass(type(value), _StandIn) else value  # noqa: SLF001 - one of these


def _leads_on(place: _Place, found: Any) -> bool:
    """Whether calls can be made through what an attribute of the target holds."""
    kind: type[Any] = type(found)  # pyright: ignore[reportUnknownVariableType]  # of anything at all
    if isinstance(found, type) or (kind.__module__ == "builtins" and not callable(found)):
        return False
    if inspect.isroutine(place.target) or isinstance(found, _VALUES):
        return False
    # A part of the client is of its package; an HTTP client or a URL is another's.
    home = type(place.root.client).__module__.partition(".")[0]
    return callable(found) or kind is SimpleNamespace or kind.__module__.partition(".")[0] == home


def _below(place: _Place, name: str, found: Any) -> _Place:
    path = (*place.path, name)
    wrapping, client = place.root.wrapping, place.root.client
    is_covered = wrapping.covers(path)
    instead = None
    if is_covered and wrapping.known is not None:
        instead = wrapping.known.instead_of_blocking(client, path)
    return _Place(place.root, found, path, place.target, is_covered, instead)


def _again(self: _StandIn, answer: Any) -> Any:
    """Return a method's answer, with a copy of the client wrapped as the client is."""
    place = self._penstock
    if answer is place.target:
        return self
    if type(answer) is type(place.root.client):
        return stand_in(place.root.copied(answer))
    return answer


# --- special methods ----------------------------------------------------------------------------
# Python looks for them on the class: each class of stand-ins has those of what it stands for.


def _call(self: _StandIn, /, *args: Any, **kwargs: Any) -> Any:
    place = self._penstock
    if place.instead is not None:
        path = ".".join(place.path)
        raise TypeError(f"{path} blocks the event loop while it waits; call {place.instead}")
    # Looked up now: a test may have replaced it on the client.
    method = place.target if place.owner is None else getattr(place.owner, place.path[-1])
    answer = method(*args, **kwargs)
    if place.is_covered and (type(answer) is CoroutineType or _is_awaited(answer)):
        return place.root.start(place.path, answer, args, kwargs)
    if place.path and place.path[-1] in ENDINGS and inspect.isawaitable(answer):
        return place.root.end(answer)
    return _again(self, answer)


def _is_awaited(answer: Any) -> bool:
    # What can be entered as well is more than one call: a connection, a pipeline, an open stream.
    return inspect.isawaitable(answer) and not hasattr(type(answer), "__aenter__")


def _enter(self: _StandIn) -> Any:
    return _again(self, self._penstock.target.__enter__())


async def _aenter(self: _StandIn) -> Any:
    return _again(self, await self._penstock.target.__aenter__())


async def _aexit(self: _StandIn, *failure: Any) -> Any:
    place = self._penstock
    return await place.root.end(place.target.__aexit__(*failure))


def _await(self: _StandIn) -> Generator[Any, Any, Any]:
    return _again(self, (yield from self._penstock.target.__await__()))


def _passed_on(name: str) -> Callable[..., Any]:
    def special(self: _StandIn, /, *args: Any) -> Any:
        return getattr(self._penstock.target, name)(*args)

    return special


_ALWAYS: dict[str, Any] = {
    # ``isinstance`` asks for it.
    "__class__": property(lambda self: self._penstock.target.__class__),
    "__doc__": property(lambda self: inspect.getdoc(self._penstock.target)),
}
_SPECIAL: dict[str, Any] = {
    "__aenter__": _aenter,
    "__aexit__": _aexit,
    "__await__": _await,
    "__call__": _call,
    "__enter__": _enter,
}
_SPECIAL.update(
    (name, _passed_on(name))
    for name in (
        "__aiter__",
        "__anext__",
        "__bool__",
        "__contains__",
        "__delitem__",
        "__exit__",
        "__getitem__",
        "__iter__",
        "__len__",
        "__next__",
        "__setitem__",
    )
)

_classes: WeakKeyDictionary[type, type[_StandIn]] = WeakKeyDictionary()


def _made(place: _Place) -> _StandIn:
    kind: type[Any] = type(place.target)  # pyright: ignore[reportUnknownVariableType]  # of anything
    made = _classes.get(kind)
    if made is None:
        # Not by ``hasattr``: every class can be called.
        names = {name for base in kind.__mro__ for name in vars(base)}
        special = {name: method for name, method in _SPECIAL.items() if name in names}
        made = _classes[kind] = type(kind.__name__, (_StandIn,), _ALWAYS | special)
    return made(place)
