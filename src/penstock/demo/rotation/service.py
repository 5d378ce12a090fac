"""The server's side of the five keys: who asks decides what the answer is."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from penstock.demo.rotation.keys import KEYS, KeyTerms, value_of

__all__ = ["KeyedAnswer", "KeyedService"]

_WINDOW = 1.0

# Saying no takes a server little.
_SECONDS_TO_LIMIT = 0.02
_SECONDS_TO_REFUSE = 0.05


@dataclass(frozen=True, slots=True)
class KeyedAnswer:
    """What the server does with one request.

    Attributes:
        status: The HTTP status.
        after: Seconds until the answer.
        headers: Sent with it.
    """

    status: int
    after: float
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Account:
    terms: KeyTerms
    answers: Counter[int] = field(default_factory=Counter[int])
    recent: deque[float] = field(default_factory=deque[float])


class KeyedService:
    """Answers by key, and counts by key.

    Args:
        seed: Which values the keys have, and how long the answers take.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(f"{seed} latencies")
        self._accounts = {value_of(seed, terms.id): _Account(terms) for terms in KEYS}

    @property
    def seen(self) -> Mapping[str, Mapping[int, int]]:
        """The requests so far by key id and by the status that they were given."""
        return {account.terms.id: account.answers for account in self._accounts.values()}

    def answer(self, value: str, now: float) -> KeyedAnswer:
        """Return what a request with this key meets; it counts as seen.

        Args:
            value: The key's value, or whatever else somebody sends.
            now: Monotonic seconds.
        """
        account = self._accounts.get(value)
        if account is None:
            return KeyedAnswer(401, _SECONDS_TO_REFUSE)
        answer = self._decide(account, now)
        account.answers[answer.status] += 1
        return answer

    def _decide(self, account: _Account, now: float) -> KeyedAnswer:
        terms, recent = account.terms, account.recent
        if terms.is_revoked:
            return KeyedAnswer(401, _SECONDS_TO_REFUSE)
        while recent and recent[0] <= now - _WINDOW:
            recent.popleft()
        if terms.per_second is not None and len(recent) >= terms.per_second:
            seconds = math.ceil(recent[0] + _WINDOW - now)
            return KeyedAnswer(429, _SECONDS_TO_LIMIT, (("Retry-After", str(seconds)),))
        recent.append(now)
        return KeyedAnswer(200, self._random.uniform(*terms.latency))
