"""The shapes of back-off: how long to wait after the n-th failure; randomness is passed in."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from penstock.options import Choice, Number, Options, Rule, Seconds, SecondsFromZero

__all__ = [
    "SHAPES",
    "Backoff",
    "Constant",
    "Decorrelated",
    "Exponential",
    "Fibonacci",
    "Jitter",
    "Linear",
    "Random",
    "Smooth",
    "Waits",
]

Random = Callable[[], float]
"""Returns a float from 0 up to, not including, 1."""

Waits = Callable[[int], float]
"""The waits of one call: the number of the failed attempt, from 1, to seconds."""

# Short enough that a call which fails once still feels like one call to whoever waits for it. Long
# enough that a service which restarts within half a second is not asked three times meanwhile.
DEFAULT_INITIAL = 0.2

# Beyond ten seconds people have gone away, and a policy without a timeout would look hung. A
# service that needs longer says so with Retry-After, which is obeyed up to ``max_server_delay``.
DEFAULT_MAX = 10.0

# Doubling is what nearly every client does (gRPC, AWS, OpenAI), so servers are tuned for it. From
# 0.2 s it reaches the ceiling at the seventh failure: late enough to matter, early enough to act.
DEFAULT_FACTOR = 2.0


class Jitter(enum.Enum):
    """How chance changes a wait ``w``: not at all, to 0..w, or to w/2..w."""

    NONE = "none"
    FULL = "full"
    EQUAL = "equal"


class _JitterRule(Rule):
    allowed = "none, full, equal, or a ratio from 0 to 1"

    def read(self, value: Any) -> Jitter | float:
        if isinstance(value, Jitter | str):
            member: Jitter = Choice(tuple(Jitter)).read(value)
            return member
        return Number(maximum=1.0).read(value)


JitterSetting = Annotated[Jitter | Literal["none", "full", "equal"] | float, _JitterRule()]
Factor = Annotated[float, Number(minimum=1.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff(Options):
    """Base of the shapes.

    A shape is only data. What one call needs to remember lives in the function that ``waits``
    returns, which is made when that call has failed for the first time.
    """

    stage: ClassVar[str] = "retry.wait"

    def waits(self, random: Random) -> Waits:
        """Return the waits of one call.

        Args:
            random: Where chance comes from; not asked where the shape needs none.

        Returns:
            A function from the number of the failed attempt, from 1, to finite seconds of at
            least 0 and at most ``max``. Ask it once for every failure, in order.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Backoff):
    """The same wait every time.

    Attributes:
        seconds: The wait, from 0.
        max: Most seconds, jitter included; None for no limit of its own.
        jitter: ``none``, ``full``, ``equal``, or a ratio: 0.1 varies the wait by at most 10 %.
    """

    seconds: SecondsFromZero
    max: SecondsFromZero | None = None
    jitter: JitterSetting = Jitter.NONE

    def waits(self, random: Random) -> Waits:
        """Return the waits of one call."""
        ceiling = math.inf if self.max is None else self.max
        return _limited(lambda _: self.seconds, ceiling, self.jitter, random)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growing(Backoff):
    """A wait that grows with the number of the failed attempt.

    Attributes:
        initial: Seconds after the first failure, above 0, before jitter.
        max: Most seconds, jitter included; at least ``initial``.
        jitter: ``none``, ``full``, ``equal``, or a ratio: 0.1 varies the wait by at most 10 %.
    """

    initial: Seconds = DEFAULT_INITIAL
    max: Seconds = DEFAULT_MAX
    jitter: JitterSetting = Jitter.FULL

    def __post_init__(self) -> None:
        """Check every field, and that the ceiling is above the floor."""
        Options.__post_init__(self)
        _refuse_low_ceiling(self, self.initial, self.max)

    def waits(self, random: Random) -> Waits:
        """Return the waits of one call."""
        return _limited(self.plain, self.max, self.jitter, random)

    def plain(self, attempt: int) -> float:
        """Return the wait in seconds without jitter or limit; it may be infinite, never NaN."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(_Growing):
    """``initial + increment * (attempt - 1)``.

    Attributes:
        increment: Seconds more after each further failure, from 0; None takes ``initial``, so that
            the waits are 1, 2, 3 ... times ``initial``.
    """

    increment: SecondsFromZero | None = None

    def plain(self, attempt: int) -> float:
        """Return the wait in seconds without jitter or limit."""
        increment = self.initial if self.increment is None else self.increment
        return self.initial + increment * (attempt - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential(_Growing):
    """``initial * factor ** (attempt - 1)``.

    With full jitter it is "Full Jitter", with ``equal`` it is "Equal Jitter" of Marc Brooker,
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Attributes:
        factor: How much longer each further wait is, from 1.
    """

    factor: Factor = DEFAULT_FACTOR

    def plain(self, attempt: int) -> float:
        """Return the wait in seconds without jitter or limit."""
        try:
            return self.initial * float(self.factor) ** (attempt - 1)
        except OverflowError:
            return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Fibonacci(_Growing):
    """``initial`` times 1, 1, 2, 3, 5, 8, ...: slower than doubling, faster than linear."""

    def plain(self, attempt: int) -> float:
        """Return the wait in seconds without jitter or limit; growth stops past the limit."""
        enough = self.max / self.initial
        low, high = 1.0, 1.0
        for _ in range(attempt - 1):
            if low >= enough:
                break
            low, high = high, low + high
        return self.initial * low


@dataclass(frozen=True, slots=True, kw_only=True)
class Decorrelated(Backoff):
    """Each wait is drawn between ``initial`` and three times the one before.

    "Decorrelated Jitter" of Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog,
    2015: ``sleep = min(cap, random_between(base, sleep * 3))``, with ``sleep = base`` to begin.

    Attributes:
        initial: The shortest wait in seconds, above 0.
        max: Most seconds; at least ``initial``.
    """

    initial: Seconds = DEFAULT_INITIAL
    max: Seconds = DEFAULT_MAX

    def __post_init__(self) -> None:
        """Check every field, and that the ceiling is above the floor."""
        Options.__post_init__(self)
        _refuse_low_ceiling(self, self.initial, self.max)

    def waits(self, random: Random) -> Waits:
        """Return the waits of one call; the function remembers its last one."""
        low, ceiling = self.initial, self.max
        last = low

        def wait(_attempt: int) -> float:
            nonlocal last
            last = min(low + (last * 3 - low) * random(), ceiling)
            return last

        return wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Smooth(Backoff):
    """Exponential growth whose waits spread evenly instead of bunching at certain instants.

    The formula is "DecorrelatedJitterBackoffV2" of Polly.Contrib.WaitAndRetry (George Polevoy and
    the Polly team, 2019), which Polly 8 uses for exponential back-off with jitter: with
    ``f(t) = 2**t * tanh(sqrt(4 * t))`` and ``t = n + random()`` for the n-th wait (from 0), a wait
    is ``initial / 1.4`` times the growth of ``f`` since the wait before.

    Attributes:
        initial: Seconds around which the first wait falls, above 0. Polly calls it the median of
            the first wait; with its constants that is 0.9 times this.
        max: Most seconds; at least ``initial``.
    """

    initial: Seconds = DEFAULT_INITIAL
    max: Seconds = DEFAULT_MAX

    def __post_init__(self) -> None:
        """Check every field, and that the ceiling is above the floor."""
        Options.__post_init__(self)
        _refuse_low_ceiling(self, self.initial, self.max)

    def waits(self, random: Random) -> Waits:
        """Return the waits of one call; the function remembers how far ``f`` had come."""
        scale, ceiling = self.initial / _SMOOTH_SCALE, self.max
        before = 0.0

        def wait(attempt: int) -> float:
            nonlocal before
            at = attempt - 1 + random()
            # Beyond, 2**t leaves the floats; every wait has been ``max`` for long by then.
            if at >= _SMOOTH_END:
                return ceiling
            now: float = 2.0**at * math.tanh(math.sqrt(_SMOOTH_RATE * at))
            grown, before = now - before, now
            return min(scale * grown, ceiling)

        return wait


SHAPES: dict[str, type[Backoff]] = {
    "constant": Constant,
    "linear": Linear,
    "exponential": Exponential,
    "fibonacci": Fibonacci,
    "decorrelated": Decorrelated,
    "smooth": Smooth,
}

# Polly's own constants: the growth rate of the tanh term, and the divisor that brings the first
# wait near ``initial``. Kept as they are, so that waits tuned with Polly stay what they were.
_SMOOTH_RATE = 4.0
_SMOOTH_SCALE = 1.4
_SMOOTH_END = 1000.0


def _limited(plain: Waits, ceiling: float, jitter: object, random: Random) -> Waits:
    def wait(attempt: int) -> float:
        # Limited before chance as well as after: were the limit applied only afterwards, calls
        # that had grown past it would all wait exactly ``max``, and meet again.
        return min(_jittered(min(plain(attempt), ceiling), jitter, random), ceiling)

    return wait


def _jittered(seconds: float, jitter: object, random: Random) -> float:
    match jitter:
        case Jitter.FULL:
            return seconds * random()
        case Jitter.EQUAL:
            return seconds * (0.5 + 0.5 * random())
        case int() | float():
            return seconds * (1.0 + jitter * (2.0 * random() - 1.0))
        case _:
            return seconds


def _refuse_low_ceiling(shape: Options, initial: float, ceiling: float) -> None:
    if ceiling < initial:
        raise shape.refuse("max", ceiling, f"at least 'initial' ({initial:g} s)")
