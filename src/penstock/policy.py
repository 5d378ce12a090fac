"""Policy: an immutable tuple of stages, and what can be done with it."""

from __future__ import annotations

import inspect
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from dataclasses import replace
from datetime import timedelta
from types import FunctionType, MethodType
from typing import Any, ParamSpec, Self, TypeVar, overload

from penstock.binding import Pipeline, Settings, bind, context_of, gate_of, limits_of, observers_of
from penstock.call import Call, CallContext, Cost
from penstock.classify import Answer, Classify, PresetName
from penstock.client_wrapping import ClientWrapping, plain
from penstock.entering import Operation, enter
from penstock.errors import ConfigError, PolicyError
from penstock.events import Observer
from penstock.fluent import FluentStages
from penstock.health import Health
from penstock.loading import Loadable
from penstock.many import ManyCalls
from penstock.order import refuse_misordered
from penstock.overrides import tightened
from penstock.rotatable import Rotatable
from penstock.stage import Handler, Stage, StatefulStage, name_of
from penstock.streaming import PolicyStream, Source, StreamOperation
from penstock.sync import run_sync, running_home
from penstock.wrapping import wrap

__all__ = ["Policy"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_COROUTINE_FUNCTION = inspect.CO_COROUTINE


class Policy(FluentStages, Rotatable, ManyCalls, Loadable, ClientWrapping):
    """An immutable, ordered tuple of stages round any awaitable; the first is the outermost.

    Each ``with_*`` method returns a new policy. The stages already there are shared with the old
    one, state included; ``fresh()`` gives a copy with new state.

    Args:
        name: For messages, events and telemetry; not empty.
        classify: What a failure means, asked before the built-in table: ``classify(failure)``
            returns a Verdict, a VerdictKind, its word, or None to go on to the table. Also the name
            of a preset, such as ``"openai"``, or a list of names and functions, asked in order.
        classify_result: What a result means: ``"http"``, or another preset of an HTTP service,
            reads a status; or a callable as above. None (the default) takes every result as good.
        discard: Called with a result that is going to be thrown away, to close it; sync or async.
        observers: Callables that take every ``Event``.
        telemetry: Whether calls are traced and measured while an OpenTelemetry SDK is set.

    Raises:
        ConfigError: The name is empty, a hook is not callable, no preset has the name given or
            ``telemetry`` is no bool.
    """

    __slots__ = ("_context", "_enter", "_pipeline", "_settings", "stages")

    def __init__(
        self,
        name: str = "policy",
        *,
        classify: Classify | None = None,
        classify_result: PresetName | Callable[[Any], Answer] | None = None,
        discard: Callable[[Any], object] | None = None,
        observers: Iterable[Observer] = (),
        telemetry: bool = True,
    ) -> None:
        told = observers_of(observers)
        settings = Settings(name, classify, classify_result, discard, told, telemetry)
        self._setup(settings, (), context_of(settings))

    def _setup(
        self,
        settings: Settings,
        stages: tuple[Stage, ...],
        context: CallContext,
        pipeline: Pipeline | None = None,
    ) -> None:
        self._settings = settings
        self._context = context
        self._pipeline = pipeline
        self._enter: Handler | None = None
        self.stages = stages

    def _with(self, stages: tuple[Stage, ...]) -> Self:
        policy = object.__new__(type(self))
        gate, limits, context = gate_of(stages), limits_of(stages), self._context
        if gate is not context.gate or limits != context.limits:
            context = replace(context, gate=gate, limits=limits)
        policy._setup(self._settings, stages, context)
        return policy

    @classmethod
    def _adopt(cls, policy: Policy) -> Self:
        adopted = object.__new__(cls)
        adopted._setup(policy._settings, policy.stages, policy._context)
        return adopted

    def _as_rotating(self, inject: str | None) -> Any:
        # Below this class in the file that needs it; imported by those who rotate.
        from penstock.rotating import InjectingPolicy, RotatingPolicy  # noqa: PLC0415

        if inject is None:
            return self
        kind: Any = RotatingPolicy if inject == "first" else InjectingPolicy
        return kind._adopt(self)  # noqa: SLF001 - a class of this one

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
            msg = f"policy '{self.name}': a stage must take (call, call_next); got {stage!r}"
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
        timeout: float | timedelta | None = None,
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
            timeout: Seconds (or a timedelta) for the whole call, above 0.
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
        self._handler()
        view = object.__new__(type(self))
        context = replace(self._context, overrides=overrides)
        view._setup(self._settings, self.stages, context, self._pipeline)
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
        kind: Any = type(fn)  # pyright: ignore[reportUnknownVariableType]  # of anything at all
        if kind is MethodType:
            # A class-based decorator makes methods of what is no function and has no code.
            kind = type(fn.__func__)  # pyright: ignore[reportUnknownVariableType]  # as above
        if kind is FunctionType and fn.__code__.co_flags & _COROUTINE_FUNCTION:
            return (self._enter or self._handler())(Call(self._context, fn, args, kwargs))
        return enter(self._handler(), self._context, self.stages, Operation(fn, args, kwargs))

    @overload
    def wrap(self, fn: Callable[P, Awaitable[R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def wrap(self, fn: Callable[P, R], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def wrap(self, fn: Any, /) -> Any:
        """Return ``fn`` as a coroutine function under this policy, with its signature kept.

        Works on functions, methods and static methods; the same as ``@policy``.

        Raises:
            TypeError: ``fn`` makes an async iterator (use ``stream``) or cannot be called.
        """
        gate: Any = self._context.gate
        inject = None if gate is None else gate.options.inject
        return wrap(self.call, self.name, fn, inject)

    __call__ = wrap

    def stream(
        self,
        fn: Callable[P, Source[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> PolicyStream[T]:
        """Return an async context manager over the items of ``fn(*args, **kwargs)``.

        Retried until the first item that matters, then committed; what the stages hold is held
        until it closes. ``reading(first=..., idle=...)`` says which item that is, and how long the
        next may take::

            async with policy.stream(lines, url).reading(idle=10) as items:
                async for item in items:
                    ...

        Args:
            fn: Returns an async iterable, an awaitable that brings one, or an async context manager
                that does.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        reading = StreamOperation(plain(fn, self.stages))
        operation = Operation(reading, args, kwargs)
        return PolicyStream(
            lambda: enter(self._handler(), self._context, self.stages, operation), reading
        )

    def run_sync(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call from code without an event loop, from any thread; return its result.

        Raises:
            PolicyError: Called inside a running event loop.
        """

        async def main() -> R:
            return await self.call(fn, *args, **kwargs)

        return run_sync(main, running_home(self.stages))

    def health(self) -> Health:
        """Return whether the pool of a policy that rotates can serve, and if not, when.

        Raises:
            PolicyError: The policy rotates over no pool.
        """
        gate: Any = self._context.gate
        if gate is None:
            raise PolicyError(
                f"policy '{self.name}' rotates over no pool; it has no health to tell"
            )
        health: Health = gate.pool.health()
        return health

    def snapshot(self) -> dict[str, Any]:
        """Return every stage's live state as a plain dict that JSON can hold; never a secret."""
        return {
            "policy": self.name,
            "stages": [
                s.snapshot() if isinstance(s, StatefulStage) else {"stage": name_of(s)}
                for s in self.stages
            ],
        }

    def __repr__(self) -> str:
        stages = ", ".join(name_of(s) for s in self.stages)
        return f"<Policy {self.name!r}: {stages or 'no stages'}>"

    def bound(self) -> tuple[Handler, CallContext]:
        """Return what takes this policy's calls, and what they share: for those who build on it."""
        return self._handler(), self._context

    def _handler(self) -> Handler:
        # Bound at the first call, not when built: a chain makes policies that never run.
        if self._enter is None:
            if self._pipeline is None:
                self._pipeline = bind(self._settings, self.stages)
            limited = self._context.overrides.timeout is not None
            self._enter = self._pipeline.limited if limited else self._pipeline.plain
        return self._enter
