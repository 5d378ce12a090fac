"""What the demo's server does to each call: misfortunes by a seed, then a good answer.

The script goes by call and not by order of arrival, so that the same seed tells the same story
however the requests interleave.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

__all__ = ["Answer", "Kind", "Script"]


class Kind(enum.Enum):
    """What the server does with a request; the values are the words in its statistics."""

    OK = "200"
    RATE_LIMITED = "429"
    OVERLOADED = "503"
    RESET = "connection reset"
    SLOW = "slow answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one request.

    Attributes:
        kind: The status, or the misbehaviour.
        after: Seconds until the answer.
        headers: Sent with it.
    """

    kind: Kind
    after: float
    headers: tuple[tuple[str, str], ...] = ()


# How many of the calls meet each misfortune. Together one call in six: bad enough that no run
# comes through without its policy, and still over in a quarter of a minute.
_SHARES: dict[str, float] = {
    "busy": 0.05,
    "reset": 0.04,
    "slow": 0.03,
    "limited_ms": 0.03,
    "limited_s": 0.01,
}

# So many calls in a row meet a service that is down, enough for the breaker to open.
_OUTAGE = 12
_OUTAGE_FROM = 0.6

# Far above the attempt timeout of the recipe, so that a slow machine does not change the story.
_SLOW_SECONDS = 5.0


class Script:
    """The answers for every call of one run.

    Args:
        seed: The same seed makes the same script.
        calls: How many calls will be made, from 1.
    """

    def __init__(self, seed: int, calls: int) -> None:
        self._random = Random(seed)
        self._answers: list[Iterator[Answer]] = []
        misfortunes: list[list[Answer]] = [[] for _ in range(calls)]
        for name, share in _SHARES.items():
            for call in self._random.sample(range(calls), max(1, round(share * calls))):
                misfortunes[call].append(self._misfortune(name))
        began = int(calls * _OUTAGE_FROM)
        for call in range(began, min(began + _OUTAGE, calls)):
            misfortunes[call].insert(0, Answer(Kind.OVERLOADED, 0.02))
        self._answers = [iter(answers) for answers in misfortunes]

    def next(self, call: int) -> Answer:
        """Return what the next request of a call (from 0) meets."""
        misfortune = next(self._answers[call], None) if call < len(self._answers) else None
        return misfortune or Answer(Kind.OK, self._random.uniform(0.05, 0.35))

    def _misfortune(self, name: str) -> Answer:
        match name:
            case "busy":
                return Answer(Kind.OVERLOADED, 0.05)
            case "reset":
                return Answer(Kind.RESET, 0.03)
            case "slow":
                return Answer(Kind.SLOW, _SLOW_SECONDS)
            case "limited_ms":
                hint = str(self._random.randint(100, 400))
                # Whole seconds are all that Retry-After can say; the exact form wins.
                headers = (("retry-after-ms", hint), ("Retry-After", "1"))
                return Answer(Kind.RATE_LIMITED, 0.01, headers)
            case _:
                return Answer(Kind.RATE_LIMITED, 0.01, (("Retry-After", "1"),))
