"""What came of the five keys: the figures, and whether pool, requests and server agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.demo.rotation.book import Book, KeyCounts
from penstock.demo.rotation.keys import KEYS, KeyTerms
from penstock.demo.summary import Section, headline, lost_calls, times, waits_section
from penstock.demo.tally import Tally
from penstock.pools.stats import PoolStats

__all__ = ["RotationSummary"]

_STATUSES = (200, 429, 401)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationSummary:
    """The figures of one run.

    Attributes:
        calls: How many were asked for.
        answered: How many came back with the answer that belongs to them.
        errors: What reached the caller instead, by error type.
        tally: What the policy's events said.
        book: What was sent with each key and what came back, beside what the server counted.
        stats: What the pool counted.
        seconds: How long all of it took.
    """

    calls: int
    answered: int
    errors: Mapping[str, int]
    tally: Tally
    book: Book
    stats: PoolStats
    seconds: float

    @property
    def problems(self) -> list[str]:
        """What is wrong; empty when all is well."""
        lost = lost_calls(self.calls, self.answered, self.errors)
        return [*lost, *self._differences(), *self._late()]

    @property
    def headline(self) -> str:
        """One sentence that says how it went."""
        return headline(self.calls, self.answered, self.seconds, self.problems)

    @property
    def facts(self) -> str:
        """The main figures in a few lines."""
        book = self.book
        limited = sum(book.seen_with(terms.id, 429) for terms in KEYS)
        best = min(KEYS, key=self._alone)
        return "\n".join(
            [
                f"{book.sent} requests, of which the server answered {limited} with 429",
                *[self._refusals(terms) for terms in KEYS if terms.is_revoked],
                f"the best key alone, {best.id!r}, had needed {self._alone(best):.1f} s or more",
            ]
        )

    def sections(self) -> tuple[Section, ...]:
        """Return the figures by key, then retries and waits."""
        return (self.keys(), self._cut_short(), waits_section(self.tally))

    def keys(self) -> Section:
        """Return what was sent with each key, what came back, and how long it had needed alone."""
        heads = ("key", "terms", "sent", "server saw", "200", "429", "401", "cut off", "alone")
        rows = [(terms.id, terms.words, *self._row(terms)) for terms in KEYS]
        numbers = [[counts.sent for counts in self._counts()]]
        numbers.append([self.book.seen_with(terms.id) for terms in KEYS])
        numbers += [[counts.answers[status] for counts in self._counts()] for status in _STATUSES]
        numbers.append([counts.cut_off for counts in self._counts()])
        sums = (str(sum(column)) for column in numbers)
        return Section("keys", heads, (*rows, ("in all", "", *sums, f"{self.seconds:.1f} s")))

    def _cut_short(self) -> Section:
        rows = [
            ("rests after a 429", str(self.stats.cooldowns)),
            ("keys taken out", str(self.stats.disables)),
            ("uses moved to another key", str(self.stats.displaced)),
        ]
        return Section("pool", ("pool", "times"), tuple(rows))

    def _row(self, terms: KeyTerms) -> tuple[str, ...]:
        counts, alone = self.book.keys[terms.id], self._alone(terms)
        return (
            str(counts.sent),
            str(self.book.seen_with(terms.id)),
            *(str(counts.answers[status]) for status in _STATUSES),
            str(counts.cut_off),
            "never" if math.isinf(alone) else f"{alone:.1f} s",
        )

    def _counts(self) -> list[KeyCounts]:
        return [self.book.keys[terms.id] for terms in KEYS]

    def _alone(self, terms: KeyTerms) -> float:
        return terms.alone(self.calls)

    def _refusals(self, terms: KeyTerms) -> str:
        sent = self.book.keys[terms.id].sent
        if self.book.keys[terms.id].begun_too_late:
            return f"{terms.id!r} was asked {times(sent)}, also after its first 401"
        return f"{terms.id!r} was asked {times(sent)}, never again after its first 401"

    def _differences(self) -> Iterator[str]:
        for pooled in self.stats.resources:
            id, ours = pooled.id, self.book.keys[pooled.id]  # noqa: A001 - the word of the field
            server = self.book.seen_with(id)
            if not ours.sent - ours.doubtful <= server <= ours.sent:
                yield f"{ours.sent} requests were sent with {id!r}, but the server saw {server}"
            for status in _STATUSES:
                # Some answers were on their way to a use that had been cut off.
                if (came := ours.answers[status]) > (gave := self.book.seen_with(id, status)):
                    yield f"{came} answers {status} came for {id!r}, but the server gave {gave}"
            good, bad = ours.answers[200], ours.answers[429] + ours.answers[401]
            if (pooled.successes, pooled.failures) != (good, bad):
                yield (
                    f"the pool counted {pooled.successes} successes and {pooled.failures} failures "
                    f"of {id!r}, where {good} and {bad} answers came"
                )

    def _late(self) -> Iterator[str]:
        for id, counts in self.book.keys.items():  # noqa: A001 - the word of the field
            if late := counts.begun_too_late:
                yield f"{id!r} was asked {times(late)} after its first 401"
