"""From a tuple of stages to the one handler that a call is given to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile
from typing import Any, cast
from weakref import WeakKeyDictionary

from penstock.call import CallContext
from penstock.classify import Classify
from penstock.edges import (
    failure_classifier,
    judging,
    report_answer,
    result_classifier,
    running_again,
    start,
    starting_with,
    unwrapping,
)
from penstock.errors import ConfigError
from penstock.events import Observer
from penstock.observe import OBSERVING, Frames, Notifier, observe_pool
from penstock.order import warn_about_order
from penstock.stage import Handler, Stage, compose, name_of
from penstock.stages.timeout import OverrideTimeout
from penstock.switch import LIVE, switching, telling, watch_pool

__all__ = ["Pipeline", "Settings", "bind", "context_of", "gate_of", "limits_of", "observers_of"]

_ABOVE_ATTEMPTS = ("timeout", "fallback", "budget")

# By pool: the names and observers of the policies that are told of its changes.
_watched: WeakKeyDictionary[Any, set[tuple[str, tuple[int, ...]]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Pipeline:
    """A policy's stages, nested once for all its calls.

    Attributes:
        policy: The policy's name.
        stages: Outermost first.
        plain: Takes the calls of the policy.
        limited: Takes those that bring a time limit of their own (``using(timeout=...)``).
    """

    policy: str
    stages: tuple[Stage, ...]
    plain: Handler
    limited: Handler


@dataclass(frozen=True, slots=True)
class Settings:
    """What a policy was given besides its stages; see ``Policy``."""

    name: str
    classify: Classify | None = None
    classify_result: Any = None
    discard: Callable[[Any], object] | None = None
    observers: tuple[Observer, ...] = ()
    telemetry: bool = True


def observers_of(given: Any) -> tuple[Observer, ...]:
    """Return the observers as a tuple.

    Raises:
        ConfigError: It is no list of them. One observer may be iterable too, as an event log is:
            taken for a list it would quietly be no observer at all.
    """
    if callable(given) or not isinstance(given, Iterable):
        msg = f"policy: 'observers' must be a list of callables; got {given!r}"
        raise ConfigError(msg)
    return tuple(cast("Iterable[Observer]", given))


def context_of(settings: Settings) -> CallContext:
    """Return what all calls of a policy share.

    Raises:
        ConfigError: The name is empty, a hook is not callable or ``telemetry`` is no bool.
    """
    name, telemetry = cast("tuple[Any, Any]", (settings.name, settings.telemetry))
    if not isinstance(name, str) or not name.strip():
        msg = f"policy: 'name' must be a text that is not empty; got {name!r}"
        raise ConfigError(msg)
    if not isinstance(telemetry, bool):
        msg = f"policy: 'telemetry' must be True or False; got {telemetry!r}"
        raise ConfigError(msg)
    if settings.classify_result is not None:
        result_classifier(settings.classify_result)
    hooks: list[tuple[str, object]] = [("observers", o) for o in settings.observers]
    if settings.discard is not None:
        hooks.append(("discard", settings.discard))
    for field, hook in hooks:
        if not callable(hook):
            msg = f"policy: '{field}' must be callable; got {hook!r}"
            raise ConfigError(msg)
    notify = Notifier(settings.observers) if settings.observers else None
    return CallContext(
        policy=settings.name,
        classify=failure_classifier(settings.classify),
        notify=notify,
        discard=settings.discard,
        outside=telling(notify) if settings.telemetry else notify,
    )


def gate_of(stages: Sequence[Stage]) -> Any:
    """Return the rotation of a pipeline; None where there is none."""
    return next((stage for stage in stages if hasattr(stage, "health_for")), None)


def limits_of(stages: Sequence[Stage]) -> tuple[Any, ...]:
    """Return the stages of a pipeline that take a service's word for what is left of its quota."""
    return tuple(stage for stage in stages if hasattr(stage, "heed"))


def bind(settings: Settings, stages: Sequence[Stage]) -> Pipeline:
    """Nest the stages, with what stands at both ends.

    Without observers no frame is spent on events, and without ``classify_result`` none on results.
    """
    warn_about_order(settings.name, stages)
    rotation = gate_of(stages)
    if rotation is not None:
        _watch(rotation.pool, settings)
    plain, limited = _ends(settings, stages, OBSERVING if settings.observers else None)
    if settings.telemetry:
        # Nested when the first call is traced, with the frames that telemetry wants.
        ends = cache(partial(_ends, settings, stages))
        plain = switching(plain, lambda frames: ends(frames)[0])
        limited = switching(limited, lambda frames: ends(frames)[1])
    if settings.classify_result is not None:
        # Outside of the events: a call that ends with a refused result has failed.
        plain, limited = unwrapping(plain), unwrapping(limited)
    pipeline = Pipeline(settings.name, tuple(stages), plain, limited)
    if settings.telemetry:
        LIVE.add(pipeline)
    return pipeline


def _watch(pool: Any, settings: Settings) -> None:
    # By identity: an observer need not be hashable, and the pool keeps it alive from then on.
    told = (settings.name, tuple(map(id, settings.observers)))
    if settings.observers and told not in _watched.setdefault(pool, set()):
        # Once: a program may make a policy per request over one pool.
        _watched[pool].add(told)
        observe_pool(pool, settings.name, Notifier(settings.observers))
    if settings.telemetry:
        watch_pool(pool, settings.name)


def _ends(
    settings: Settings, stages: Sequence[Stage], frames: Frames | None
) -> tuple[Handler, Handler]:
    """Nest the stages for calls without and with a time limit of their own."""
    rotation = gate_of(stages)
    innermost = start if rotation is None else starting_with(rotation.options.inject)
    if settings.classify_result is not None:
        how = settings.classify_result
        judge = result_classifier(how)
        # Who says that results are answers of HTTP has their headers read too.
        innermost = judging(judge, innermost, report_answer if isinstance(how, str) else None)
    if frames is not None:
        innermost = frames.attempt(innermost)
    plain = _nest(stages, innermost, rotation)
    limited = compose((OverrideTimeout(),), plain)
    return (plain, limited) if frames is None else (frames.call(plain), frames.call(limited))


def _nest(stages: Sequence[Stage], innermost: Handler, rotation: Any) -> Handler:
    if rotation is None:
        return compose(stages, innermost)
    if any(getattr(stage, "runs_again", False) for stage in stages):
        return compose(stages, innermost, rotation)
    # Nobody would run a displaced attempt again. What admits calls sees it come back; a time limit
    # and a fallback further out go on holding for the whole call.
    outer = list(takewhile(lambda stage: name_of(stage) in _ABOVE_ATTEMPTS, stages))
    return compose(
        outer, running_again(compose(stages[len(outer) :], innermost, rotation)), rotation
    )
