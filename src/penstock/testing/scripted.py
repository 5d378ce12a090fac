"""Operations that play a script: what a test calls in place of a service.

Each call takes the next outcome of the script. An exception (class or instance) is raised, a
callable is called with the arguments, anything else is returned::

    search = scripted("first", ConnectionError, takes(5, "slow"), lambda query: query.upper())
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock import clock
from penstock.errors import ConfigError
from penstock.options import Number

__all__ = [
    "ScriptOver",
    "Scripted",
    "ScriptedCall",
    "ScriptedSync",
    "scripted",
    "scripted_sync",
    "takes",
]


_SECONDS = Number(unit="s")


class ScriptOver(BaseException):
    """A scripted operation was called once more than its script holds outcomes.

    Not an ``Exception``, so that no retry and no fallback under test can swallow it.
    """


@dataclass(frozen=True, slots=True)
class takes:  # noqa: N801 - reads as the phrase ``takes(5, "slow")``
    """An outcome that comes after some time.

    Attributes:
        seconds: How long the call takes, from 0; a timedelta is read as seconds.
        outcome: What it ends with, as in any other place of the script.

    Raises:
        ConfigError: ``seconds`` is negative, NaN, infinite or no number.
    """

    seconds: float
    outcome: object = None

    def __post_init__(self) -> None:
        """Check the seconds now and not in the middle of a test."""
        try:
            object.__setattr__(self, "seconds", _SECONDS.read(self.seconds))
        except ValueError:
            raise ConfigError(
                f"takes: 'seconds' must be {_SECONDS.allowed}; got {self.seconds!r}"
            ) from None


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """What one call of a scripted operation was.

    Attributes:
        number: Which call it was, from 1.
        at: When it began, in seconds of ``penstock.clock``.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    number: int
    at: float
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


_NOTHING = object()


class _Script:
    """What both flavours share: the outcomes and the record."""

    def __init__(self, *outcomes: object, then: object = _NOTHING, name: str = "scripted") -> None:
        self.__name__ = self.__qualname__ = name
        self.calls: list[ScriptedCall] = []
        self._outcomes = deque(outcomes)
        self._length = len(outcomes)
        self._then = then

    @property
    def left(self) -> int:
        """How many outcomes have not been played yet."""
        return len(self._outcomes)

    @property
    def times(self) -> list[float]:
        """When each call began, in seconds."""
        return [call.at for call in self.calls]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.__name__!r}: {len(self.calls)} calls, {self.left} left>"
        )

    def _next(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        self.calls.append(ScriptedCall(len(self.calls) + 1, clock.now(), args, kwargs))
        if self._outcomes:
            return self._outcomes.popleft()
        if self._then is _NOTHING:
            raise ScriptOver(
                f"scripted operation '{self.__name__}': call {len(self.calls)} came, but its script"
                f" ends after {self._length}; add outcomes, or then=... for all further calls"
            )
        return self._then


class Scripted(_Script):
    """An async operation that plays a script of outcomes and records its calls.

    Args:
        outcomes: One per call, in order.
        then: The outcome of every further call; without it a further call raises ``ScriptOver``.
        name: For messages and events.

    Attributes:
        calls: What was called, when and with what.
        in_flight: How many calls are under way.
        most_in_flight: How many were under way at once at most.

    Raises:
        ScriptOver: From a call: the script has ended.
    """

    def __init__(self, *outcomes: object, then: object = _NOTHING, name: str = "scripted") -> None:
        super().__init__(*outcomes, then=then, name=name)
        self.in_flight = 0
        self.most_in_flight = 0

    async def __call__(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - any result
        """Play the next outcome."""
        outcome = self._next(args, kwargs)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            while isinstance(outcome, takes):
                await asyncio.sleep(outcome.seconds)
                outcome = outcome.outcome
            result = _end(outcome, args, kwargs)
            return await result if inspect.isawaitable(result) else result
        finally:
            self.in_flight -= 1


class ScriptedSync(_Script):
    """A plain function that plays a script; as ``Scripted``, but nothing in it can take time.

    Raises:
        TypeError: An outcome uses ``takes``; only an async script can.
    """

    def __init__(self, *outcomes: object, then: object = _NOTHING, name: str = "scripted") -> None:
        super().__init__(*outcomes, then=then, name=name)
        if any(isinstance(outcome, takes) for outcome in (*outcomes, then)):
            raise TypeError("a plain function cannot take virtual time; use scripted(...)")

    def __call__(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - any result
        """Play the next outcome."""
        return _end(self._next(args, kwargs), args, kwargs)


def _end(outcome: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    if isinstance(outcome, BaseException):
        raise outcome
    if inspect.isclass(outcome) and issubclass(outcome, BaseException):
        raise outcome
    return outcome(*args, **kwargs) if callable(outcome) else outcome


def scripted(*outcomes: object, then: object = _NOTHING, name: str = "scripted") -> Scripted:
    """Return an async operation that plays ``outcomes``, one per call; see ``Scripted``."""
    return Scripted(*outcomes, then=then, name=name)


def scripted_sync(
    *outcomes: object, then: object = _NOTHING, name: str = "scripted"
) -> ScriptedSync:
    """Return a plain function that plays ``outcomes``, one per call; see ``ScriptedSync``."""
    return ScriptedSync(*outcomes, then=then, name=name)
