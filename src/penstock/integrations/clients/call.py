"""One call of a wrapped client's method, attempt by attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

from penstock.call import Call, current_resource
from penstock.integrations.clients.bound import Bind, Bound, drop
from penstock.integrations.clients.known import KnownClient
from penstock.integrations.clients.replaying import Bodies, bodies_of
from penstock.stage import Handler

if TYPE_CHECKING:
    from penstock.policy import Policy

__all__ = ["Path", "Root", "Wrapping"]

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What a client and its copies are wrapped with.

    Attributes:
        policy: What their calls run under.
        covers: Answers whether the method at a path is covered.
        known: What is known of the SDK; None for one that nothing is known of.
        bind: Returns the client to use with a resource; None where nothing is bound.
        injects: True where the policy hands each attempt its resource as first argument.
        is_ours: True where ``bind`` is not the user's.
        tells: True where somebody wants to know the headers of good answers.
    """

    policy: Policy
    covers: Callable[[Path], bool]
    known: KnownClient | None
    bind: Bind | None
    injects: bool
    is_ours: bool
    tells: bool


class Root:
    """A client, or a copy of one, with what it is wrapped with and the clients bound from it."""

    __slots__ = ("bound", "client", "wrapping")

    def __init__(self, client: Any, wrapping: Wrapping) -> None:
        self.client = client
        self.wrapping = wrapping
        self.bound: Bound | None = None
        if wrapping.bind is not None:
            known, is_ours = wrapping.known, wrapping.is_ours
            self.bound = Bound(client, wrapping.bind, known, is_ours=is_ours)

    def copied(self, client: Any) -> Root:
        """Return the root of a copy of the client, wrapped as this one is."""
        return Root(client, self.wrapping)

    def changed(self) -> None:
        """Bind anew from now on: the client has another attribute than it had."""
        if self.bound is not None:
            self.bound.forget()

    def plain(self, path: Path) -> Callable[..., Any]:
        """Return a method as one attempt calls it: for a call that is under the policy already."""

        def attempt(*args: Any, **kwargs: Any) -> Any:
            owner, left = self.owner_for(args)
            return at(owner, path)(*left, **kwargs)

        attempt.__qualname__ = ".".join(path)
        return attempt

    def owner_for(self, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """Return the client for the attempt's resource, and the arguments without it."""
        if self.bound is None:
            return self.client, args
        if not self.wrapping.injects:
            return self.bound.to(current_resource()), args
        return self.bound.to(args[0]), args[1:]

    async def end(self, closing: Awaitable[Any]) -> Any:
        """Close the client, and what was bound from it."""
        try:
            return await closing
        finally:
            if self.bound is not None:
                await self.bound.release()

    def start(self, path: Path, answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what runs a method under the policy, given what calling it has returned.

        Args:
            path: Where the method is.
            answer: An awaitable; the first attempt awaits it where it is what that attempt needs.
            args: What the method was called with.
            kwargs: The same.
        """
        if hasattr(answer, "__aiter__"):
            kind = _items_like(answer.__class__)
            return kind(lambda: self._run(path, answer, args, kwargs), answer)
        return self._run(path, answer, args, kwargs)

    def _run(
        self, path: Path, answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        handler, context = self.wrapping.policy.bound()
        attempts = _Attempts(self, path, answer, bodies_of(args, kwargs))
        return _held(handler, Call(context, attempts, args, kwargs), attempts)


async def _held(handler: Handler, call: Call, attempts: _Attempts) -> Any:
    # Not before: one that never begins would be left to the collector together with its call.
    attempts.call = call
    try:
        return await handler(call)
    finally:
        attempts.end()


def at(owner: Any, path: Iterable[str]) -> Any:
    """Return what is at a path."""
    return reduce(getattr, path, owner)


class _Attempts:
    """What the call of a wrapped method runs: each attempt of it.

    Attributes:
        call: The call, until it has ended.
    """

    __slots__ = ("_bodies", "_first", "_path", "_root", "call")

    def __init__(self, root: Root, path: Path, first: Any, bodies: Bodies | None) -> None:
        self._root = root
        self._path = path
        self.call: Call | None = None
        self._first = first
        self._bodies = bodies
        if root.bound is not None or root.wrapping.tells:
            # Made for another key, or without a way to learn the headers.
            self._drop_first()

    @property
    def operation_name(self) -> str:
        """The dotted path, for messages and telemetry."""
        return ".".join(self._path)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start an attempt and return what it is awaited by."""
        started = self._start(*args, **kwargs)
        return started if self._bodies is None else self._sent(started, self._bodies)

    async def _sent(self, started: Awaitable[Any], bodies: Bodies) -> Any:
        try:
            return await started
        except BaseException:
            if not bodies.rewind() and self.call is not None:
                self.call.committed = True
            raise

    def _start(self, *args: Any, **kwargs: Any) -> Any:
        first, self._first = self._first, None
        if first is not None:
            return first
        owner, args = self._root.owner_for(args)
        return self._method(owner)(*args, **kwargs)

    def end(self) -> None:
        """Close what was never awaited, and let go of the call, which holds this."""
        self._drop_first()
        self.call = None

    # A call that is cancelled before its first step runs no ``finally``.
    def __del__(self) -> None:
        self._drop_first()

    def _drop_first(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            drop(first)

    def _method(self, owner: Any) -> Callable[..., Any]:
        *parts, name = self._path
        owner = at(owner, parts)
        wrapping = self._root.wrapping
        telling = None
        if wrapping.tells and wrapping.known is not None:
            telling = wrapping.known.telling(owner, name, self._tell)
        return telling or getattr(owner, name)

    def _tell(self, headers: object) -> None:
        if self.call is not None:
            self.call.report(headers)


class _Items:
    """An answer that can be awaited and iterated, as ``client.models.list()`` of openai.

    Awaited it is one call under the policy; iterated it is too, and goes on with what that brought.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, Any]], answer: Any) -> None:
        self._run = run
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._run().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for item in await self:
            yield item


@cache
def _items_like(kind: type[Any]) -> type[_Items]:
    return type(kind.__name__, (_Items,), {"__class__": property(lambda _: kind)})
