"""What a policy is called by type checkers once it rotates: operations take a resource first."""

# The parameter goes: that is the point, and no checker takes it for an override.
# mypy: disable-error-code="override, overload-overlap, assignment"
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
)
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from penstock.policy import Policy

if TYPE_CHECKING:
    from penstock.batch import Items
    from penstock.pools.resource import Resource
    from penstock.progress import Progress
    from penstock.streaming import PolicyStream, Source

__all__ = ["InjectingPolicy", "RotatingPolicy"]

A = TypeVar("A")
C = TypeVar("C")
I = TypeVar("I")  # noqa: E741 - the item that a stream or a batch goes through
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class RotatingPolicy(Policy, Generic[T]):
    """A policy that hands each attempt a ``Resource[T]`` as the operation's first argument.

    Made by ``policy.rotating(resources)``. At run time it is a policy like any other; the class is
    there for the types: ``policy.call(search, "query")`` calls ``search(resource, "query")``, and
    ``@policy`` takes the parameter out of the signature, after ``self`` where there is one.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def call(
            self,
            fn: Callable[Concatenate[Resource[T], P], Awaitable[R]],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> Coroutine[Any, Any, R]: ...
        @overload
        def call(
            self, fn: Callable[Concatenate[Resource[T], P], R], /, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]: ...
        def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any: ...

        @overload
        def wrap(
            self, fn: Callable[Concatenate[Resource[T], P], Awaitable[R]], /
        ) -> Callable[P, Coroutine[Any, Any, R]]: ...
        @overload
        def wrap(
            self, fn: Callable[Concatenate[S, Resource[T], P], Awaitable[R]], /
        ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
        @overload
        def wrap(
            self, fn: Callable[Concatenate[Resource[T], P], R], /
        ) -> Callable[P, Coroutine[Any, Any, R]]: ...
        def wrap(self, fn: Any, /) -> Any: ...

        __call__ = wrap

        def stream(
            self,
            fn: Callable[Concatenate[Resource[T], P], Source[I]],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> PolicyStream[I]: ...

        def run_sync(
            self,
            fn: Callable[Concatenate[Resource[T], P], Awaitable[R]],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> R: ...

        async def gather(
            self,
            fn: Callable[[Resource[T], A], Awaitable[R]],
            items: Items[A],
            *,
            concurrency: int | None = None,
            ordered: bool = True,
            return_exceptions: bool = False,
            progress: Progress = None,
        ) -> list[R]: ...

        def map(
            self,
            fn: Callable[[Resource[T], A], Awaitable[R]],
            items: Items[A],
            *,
            concurrency: int | None = None,
            return_exceptions: bool = False,
            progress: Progress = None,
        ) -> AsyncIterator[R]: ...

        def wrap_client(
            self,
            client: C,
            *,
            only: Iterable[str] | None = None,
            bind: Callable[[C, Resource[T]], C] | None = None,
        ) -> C: ...


class InjectingPolicy(Policy):
    """A policy that hands each attempt a resource's value by keyword.

    Made by ``policy.rotating(resources, inject="api_key")``. No type can say that a keyword of a
    function is filled in, so operations keep their result's type and lose their parameters'.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def call(
            self, fn: Callable[..., Awaitable[R]], /, *args: Any, **kwargs: Any
        ) -> Coroutine[Any, Any, R]: ...
        @overload
        def call(
            self, fn: Callable[..., R], /, *args: Any, **kwargs: Any
        ) -> Coroutine[Any, Any, R]: ...
        def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any: ...

        @overload
        def wrap(
            self, fn: Callable[..., Awaitable[R]], /
        ) -> Callable[..., Coroutine[Any, Any, R]]: ...
        @overload
        def wrap(self, fn: Callable[..., R], /) -> Callable[..., Coroutine[Any, Any, R]]: ...
        def wrap(self, fn: Any, /) -> Any: ...

        __call__ = wrap
