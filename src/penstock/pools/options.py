"""What can be set on a pool."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

from penstock.matching import is_async_callable
from penstock.options import CountFromZero, Flag, Name, Number, Options, Rule, Seconds
from penstock.pools.resource import Resource

__all__ = [
    "DEFAULT_COOLDOWN",
    "DEFAULT_FAILURE_PENALTY",
    "DEFAULT_MAX_COOLDOWN",
    "DEFAULT_MIN_READY",
    "PICKS",
    "CooldownRule",
    "HookRule",
    "PickRule",
    "PoolOptions",
]

# Most limits are per minute, so half a minute lets half a window pass and two minutes every such
# window. Ten minutes at the end is often enough to notice that an account was topped up, and at
# one probe each costs nothing.
DEFAULT_COOLDOWN = (30.0, 120.0, 300.0, 600.0)

# A server may ask for a day, by mistake or for a quota that a human raises within the hour. Asking
# again once an hour costs one refused call, and the next hint is obeyed the same way.
DEFAULT_MAX_COOLDOWN = 3600.0

# A bad hour of the service fails on every resource alike, and a pool that has put them all away
# serves nobody. One that stays tells when the hour is over.
DEFAULT_MIN_READY = 1

# A resource that fails at once must not look fast. Five seconds is far above the latency of any
# healthy one, and with the average's decay it is forgotten after a few good answers.
DEFAULT_FAILURE_PENALTY = 5.0

PICKS = (
    "least_in_flight",
    "round_robin",
    "least_total",
    "random",
    "primary_backup",
    "weighted",
    "sticky",
    "p2c_ewma",
    "most_remaining",
)
"""The words for the pickers that penstock brings."""

Group = Callable[[Resource[Any]], str | None]
# Any: a Call; naming the class here would bring the clock along.
Dimension = str | Callable[[Any], Hashable]


class PickRule(Rule):
    """The word for a picker, or one of the user's own."""

    allowed = "one of " + ", ".join(PICKS) + ", or a picker: an object with a method 'pick'"

    def read(self, value: Any) -> Any:
        """Return the word or the picker."""
        is_picker = callable(getattr(value, "pick", None)) and not isinstance(value, type)
        if not is_picker and not (isinstance(value, str) and value in PICKS):
            raise ValueError
        return value


class CooldownRule(Rule):
    """Seconds in steps."""

    allowed = "seconds of at least 0 (or a timedelta), or a list of them that is not empty"

    def read(self, value: Any) -> tuple[float, ...]:
        """Return the steps as a tuple of seconds."""
        steps: list[Any] = [value]
        if isinstance(value, list | tuple):
            steps = list(cast("Sequence[Any]", value))
        if not steps:
            raise ValueError
        return tuple(Number(unit="s").read(step) for step in steps)


class _PlainFunctionRule(Rule):
    def __init__(self, what: str) -> None:
        self.allowed = f"a function of {what} that is not async"

    def read(self, value: Any) -> Any:
        # A class is refused: called, it would make an instance and say nothing.
        if not callable(value) or isinstance(value, type) or is_async_callable(value):
            raise ValueError
        return value


class _DimensionRule(_PlainFunctionRule):
    def __init__(self) -> None:
        super().__init__("the call")
        self.allowed = f"the name of a keyword argument, or {self.allowed}"

    def read(self, value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"[^\W\d]\w*", value):
            return value
        return super().read(value)


class HookRule(Rule):
    """A function of the user's that is told something."""

    allowed = "a function, sync or async"

    def read(self, value: Any) -> Any:
        """Return the function."""
        if not callable(value) or isinstance(value, type):
            raise ValueError
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions(Options):
    """Options of a pool of resources.

    Attributes:
        name: The pool's name in messages, events and snapshots.
        pick: Which ready resource serves next: ``least_in_flight`` (among equals, the one that
            rested longest), ``round_robin``, ``least_total``, ``random``, ``primary_backup``,
            ``weighted``, ``sticky``, ``p2c_ewma``, ``most_remaining``, or a picker of your own.
        cooldown: Seconds that a resource rests after its first, second, ... rate limit in a row,
            from 0; the last one goes on. A number is a table of one step.
        max_cooldown: Most seconds that a server's own hint is obeyed, above 0.
        cancel_younger: Whether uses of a resource that began after the one that made it cool down
            (or be disabled) are cancelled and run again on another one.
        probe_on_recovery: Whether a resource whose cooldown is over serves one call at a time until
            one succeeds.
        min_ready: Soft failures never leave fewer resources ready than this, from 0.
        max_queue: How many calls may wait for a resource, from 0; None for no bound.
        failure_penalty: Seconds of latency that a failure counts as for ``p2c_ewma``, above 0.
        group: Names the quota group of a resource, or None for none, where ``Resource.group`` is
            not set. Resources of one group cool down together.
        dimension: Health is kept apart by it: the name of a keyword argument of the operation
            (``model``), or a function of the call.
        url: Where a call goes: the name of a keyword argument of the operation (``url``), or a
            function of the call. Only resources whose ``origins`` allow it serve the call.
        on_state_change: Called with a ``Change`` after each change of a resource's state; may be
            async. Whatever it does changes nothing for the caller.
    """

    stage: ClassVar[str] = "pool"

    name: Name = "pool"
    # Right for calls of any length without a word of tuning: slow resources fill up and are passed
    # by. Where calls never overlap it is round robin.
    pick: Annotated[str | object, PickRule()] = "least_in_flight"
    cooldown: Annotated[tuple[float, ...], CooldownRule()] = DEFAULT_COOLDOWN
    max_cooldown: Seconds = DEFAULT_MAX_COOLDOWN
    # They run into the limit that their elder has just met. Waiting for each of them to be told so
    # costs a round trip, and at many providers a longer ban.
    cancel_younger: Flag = True
    # All waiting calls at once are the surest way into the next limit. One call tells as much.
    probe_on_recovery: Flag = True
    min_ready: CountFromZero = DEFAULT_MIN_READY
    max_queue: CountFromZero | None = None
    failure_penalty: Seconds = DEFAULT_FAILURE_PENALTY
    group: Annotated[Group, _PlainFunctionRule("the resource")] | None = None
    dimension: Annotated[Dimension, _DimensionRule()] | None = None
    url: Annotated[Dimension, _DimensionRule()] | None = None
    on_state_change: Annotated[Callable[..., object], HookRule()] | None = None

    @property
    def tells_calls_apart(self) -> bool:
        """True where not every call is served by the same lane."""
        return self.dimension is not None or self.url is not None
