"""Policy: an immutable tuple of stages, and what can be done with it."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, ParamSpec, Self, TypeVar, overload

from penstock.batch import Items, batch_concurrency, gather, stream_results
from penstock.call import Call, CallContext, Cost
from penstock.classify import Classifier
from penstock.edges import failure_classifier, judging, result_classifier, start, unwrapping
from penstock.errors import ConfigError
from penstock.events import Observer
from penstock.fluent import FluentStages
from penstock.observe import Notifier, observe_attempt, observe_call
from penstock.operation import (
    PlainOperation,
    is_async_generator_function,
    returns_awaitable,
    run_once,
)
from penstock.order import refuse_misordered, warn_about_order
from penstock.overrides import tightened
from penstock.progress import Progress
from penstock.stage import Handler, Stage, StatefulStage, compose
from penstock.stages.timeout import OverrideTimeout
from penstock.streaming import PolicyStream
from penstock.sync import run_sync, running_home
from penstock.wrapping import wrap

__all__ = ["Policy"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")

_COROUTINE_FUNCTION = inspect.CO_COROUTINE


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a policy was given besides its stages."""

    name: str
    classify: Any = None
    classify_result: Any = None
    discard: Callable[[Any], Any] | None = None
    observers: tuple[Observer, ...] = ()


class Policy(FluentStages):
    """An immutable, ordered tuple of stages round any awaitable; the first is the outermost.

    Each ``with_*`` method returns a new policy. The stages already there are shared with the old
    one, state included; ``fresh()`` gives a copy with new state.

    Args:
        name: For messages, events and telemetry; not empty.
        classify: What a failure means, asked before the built-in table: ``classify(failure)``
            returns a Verdict, a VerdictKind, its word, or None to go on to the table.
        classify_result: What a result means: ``"http"`` reads a status, or a callable as above.
            None (the default) takes every result as good.
        discard: Called with a result that is going to be thrown away, to close it; sync or async.
        observers: Callables that take every ``Event``.

    Raises:
        ConfigError: The name is empty or a hook is not callable.
    """

    __slots__ = ("_context", "_handler", "_limited", "_settings", "stages")

    def __init__(
        self,
        name: str = "policy",
        *,
        classify: Any = None,
        classify_result: Any = None,
        discard: Callable[[Any], Any] | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            msg = f"policy: 'name' must be a text that is not empty; got {name!r}"
            raise ConfigError(msg)
        settings = _Settings(name, classify, classify_result, discard, tuple(observers))
        self._setup(settings, (), _context_of(settings))

    def _setup(
        self, settings: _Settings, stages: tuple[Stage, ...], context: CallContext
    ) -> None:
        self._settings = settings
        self._context = context
        self._handler: Handler | None = None
        self._limited: Handler | None = None
        self.stages = stages

    def _with(self, stages: tuple[Stage, ...], settings: _Settings | None = None) -> Self:
        policy = object.__new__(type(self))
        policy._setup(settings or self._settings, stages, self._context)
        return policy

    @classmethod
    def from_yaml(cls, path: str | Path, name: str | None = None, **settings: Any) -> Policy:
        """Read a policy from a YAML file.

        Args:
            path: The file.
            name: Which of the file's policies; may be left out where there is only one.
            settings: As for ``Policy(...)``, for what YAML cannot say (observers, hooks).

        Raises:
            ConfigError: The file has mistakes; all are reported, each with line and column.
            OSError: The file cannot be read.
        """
        from penstock.config import policy_from_yaml  # noqa: PLC0415 - pydantic and yaml stay out

        return policy_from_yaml(path, name, **settings)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], name: str | None = None, **settings: Any
    ) -> Policy:
        """Build a policy from what a YAML file would hold, as plain Python data.

        Raises:
            ConfigError: The data has mistakes; all are reported, each with its path.
        """
        from penstock.config import policy_from_dict  # noqa: PLC0415 - pydantic stays out

        return policy_from_dict(data, name, **settings)

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._settings.name

    def with_stage(self, stage: Stage) -> Self:
        """Return a policy with one more stage, inside those already there.

        Raises:
            ConfigError: It is not callable, or the order rules refuse it there.
        """
        if isinstance(stage, type) or not callable(stage):
            msg = f"policy '{self.name}': a stage must be callable with (call, call_next); got {stage!r}"
            raise ConfigError(msg)
        stages = (*self.stages, stage)
        refuse_misordered(self.name, stages)
        return self._with(stages)

    def fresh(self) -> Self:
        """Return a copy with new state: nothing is shared with this policy but custom stages."""
        return self._with(
            tuple(s.fresh() if isinstance(s, StatefulStage) else s for s in self.stages)
        )

    def using(
        self,
        *,
        timeout: float | None = None,
        attempts: int | None = None,
        cost: Cost | None = None,
        priority: int | None = None,
        key: str | None = None,
        request_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a light view of this policy for calls that need something of their own.

        State is shared. An override may only tighten a bound: the smaller timeout and the fewer
        attempts win.

        Args:
            timeout: Seconds for the whole call, above 0.
            attempts: Most attempts, from 1.
            cost: Units for rate limits, at least 0, or units by limit name.
            priority: Whole number; higher is served first wherever calls wait.
            key: For stages that treat callers or shards apart.
            request_id: Put on every event of the call.
            tags: Free labels for observers, text to text.

        Raises:
            ConfigError: A value is not allowed.
        """
        overrides = tightened(
            self._context.overrides,
            timeout=timeout,
            attempts=attempts,
            cost=cost,
            priority=priority,
            key=key,
            request_id=request_id,
            tags=tags,
        )
        handler = self._bound()
        view = self._with(self.stages)
        view._context = replace(self._context, overrides=overrides)
        view._limited = self._limited
        view._handler = handler if overrides.timeout is None else self._limited
        return view

    @overload
    def call(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, fn: Awaitable[R], /) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run ``fn(*args, **kwargs)`` under the policy; await what is returned.

        A plain function runs in a worker thread. A bare awaitable is run as it is where the policy
        can run it at most once.

        Raises:
            TypeError: ``fn`` cannot be called, is an async generator function (use ``stream``), or
                is a bare awaitable and the policy may need to run it again.
        """
        kind = type(fn)
        if (kind is FunctionType or kind is MethodType) and fn.__code__.co_flags & _COROUTINE_FUNCTION:
            return (self._handler or self._bound())(Call(self._context, fn, args, kwargs))
        return self._call_other(fn, args, kwargs)

    def _call_other(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        handler = self._bound()
        if inspect.isawaitable(fn):
            self._refuse_awaitable(fn)
            call = Call(self._context, lambda: fn)
            return run_once(lambda: handler(call), fn)
        if not callable(fn):
            msg = f"policy '{self.name}': call takes a function or an awaitable; got {fn!r}"
            raise TypeError(msg)
        if is_async_generator_function(fn):
            msg = f"policy '{self.name}': {fn!r} makes an async iterator; use policy.stream(...)"
            raise TypeError(msg)
        if returns_awaitable(fn):
            return handler(Call(self._context, fn, args, kwargs))
        plain = PlainOperation(fn)
        call = Call(self._context, plain, args, kwargs)
        call.lingering = plain.lingering
        return handler(call)

    def _refuse_awaitable(self, awaitable: Any) -> None:
        repeaters = [s for s in self.stages if getattr(s, "repeats", False)]
        if repeaters and self._context.overrides.attempts != 1:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            msg = (
                f"policy '{self.name}': an awaitable can be awaited once, and the stage "
                f"'{getattr(repeaters[0], 'name', repeaters[0])}' may need it again; "
                "pass the function and its arguments instead"
            )
            raise TypeError(msg)

    @overload
    def wrap(
        self, fn: Callable[P, Awaitable[R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def wrap(self, fn: Callable[P, R], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def wrap(self, fn: Any, /) -> Any:
        """Return ``fn`` as a coroutine function under this policy, with its signature kept.

        Works on functions, methods and static methods; the same as ``@policy``.

        Raises:
            TypeError: ``fn`` makes an async iterator (use ``stream``) or cannot be called.
        """
        return wrap(self.call, self.name, fn)

    __call__ = wrap

    def stream(
        self,
        fn: Callable[P, AsyncIterable[T] | Awaitable[AsyncIterable[T]]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> PolicyStream[T]:
        """Return an async context manager over the items of ``fn(*args, **kwargs)``.

        Retried until the first item, then committed; permits and timers are held until it is closed::

            async with policy.stream(lines, url) as items:
                async for item in items:
                    ...
        """

        def run(read: Callable[[Call], Coroutine[Any, Any, Any]]) -> Coroutine[Any, Any, Any]:
            call = Call(self._context, fn)
            call.fn = lambda: read(call)
            return self._bound()(call)

        return PolicyStream(run, lambda: fn(*args, **kwargs))

    async def gather(
        self,
        fn: Callable[[A], Awaitable[R]],
        items: Items[A],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: Progress = None,
    ) -> list[R]:
        """Call ``fn(item)`` for every item under the policy and return all results.

        Args:
            fn: The operation.
            items: An iterable or async iterable; read as it is needed, so it may be endless long.
            concurrency: Calls under way at once, from 1; None takes the policy's own concurrency
                limit, or 100.
            ordered: Results in input order (the default) or in completion order.
            return_exceptions: Put an error in its item's place instead of stopping at the first.
            progress: True for a bar (needs rich), or a callable(done, total).

        Raises:
            ConfigError: ``concurrency`` or ``progress`` is not allowed.
            Exception: The first error of a call, after the other calls were cancelled.
        """
        return await gather(
            lambda item: self.call(fn, item),
            items,
            concurrency=batch_concurrency(concurrency, self.stages),
            ordered=ordered,
            return_exceptions=return_exceptions,
            progress=progress,
        )

    def map(
        self,
        fn: Callable[[A], Awaitable[R]],
        items: Items[A],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = None,
    ) -> AsyncIterator[R]:
        """Return an async iterator over the results of ``fn(item)``, in completion order.

        Arguments and errors as for ``gather``. Leaving the loop early cancels what is under way.
        """
        return stream_results(
            lambda item: self.call(fn, item),
            items,
            concurrency=batch_concurrency(concurrency, self.stages),
            return_exceptions=return_exceptions,
            progress=progress,
        )

    def run_sync(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call from code without an event loop, from any thread, and return its result.

        Raises:
            PolicyError: Called inside a running event loop.
        """

        async def main() -> R:
            return await self.call(fn, *args, **kwargs)

        return run_sync(main, running_home(self.stages))

    def snapshot(self) -> dict[str, Any]:
        """Return every stage's live state as a plain dict that JSON can hold; never a secret."""
        return {
            "policy": self.name,
            "stages": [
                s.snapshot() if isinstance(s, StatefulStage) else {"stage": _name_of(s)}
                for s in self.stages
            ],
        }

    def __repr__(self) -> str:
        stages = ", ".join(_name_of(s) for s in self.stages)
        return f"<Policy {self.name!r}: {stages or 'no stages'}>"

    def _bound(self) -> Handler:
        if self._handler is None:
            warn_about_order(self.name, self.stages)
            judge = self._settings.classify_result
            innermost = start if judge is None else judging(result_classifier(judge))
            observed = self._context.notify is not None
            pipeline = compose(self.stages, observe_attempt(innermost) if observed else innermost)
            if judge is not None:
                pipeline = unwrapping(pipeline)
            limited = compose((OverrideTimeout(),), pipeline)
            self._limited = observe_call(limited) if observed else limited
            self._handler = observe_call(pipeline) if observed else pipeline
        return self._handler


def _name_of(stage: Any) -> str:
    return getattr(stage, "name", None) or getattr(stage, "__name__", type(stage).__name__)


def _context_of(settings: _Settings) -> CallContext:
    return CallContext(
        policy=settings.name,
        classify=failure_classifier(settings.classify),
        notify=Notifier(settings.observers) if settings.observers else None,
        discard=settings.discard,
    )
