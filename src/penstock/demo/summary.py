"""What came of a run: the figures, and whether they agree with what the server saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.demo.script import Kind
from penstock.demo.tally import Tally
from penstock.verdict import VerdictKind

__all__ = ["Section", "Summary", "headline", "lost_calls", "times", "waits_section"]

Row = tuple[str, ...]

# What the server calls an answer, and what penstock makes of it.
_SAME: tuple[tuple[Kind, VerdictKind], ...] = (
    (Kind.OK, VerdictKind.OK),
    (Kind.RATE_LIMITED, VerdictKind.RATE_LIMITED),
    (Kind.OVERLOADED, VerdictKind.OVERLOADED),
    (Kind.RESET, VerdictKind.TRANSIENT),
    (Kind.SLOW, VerdictKind.TIMEOUT),
)


def times(count: int) -> str:
    """Return how often, in words."""
    return "once" if count == 1 else f"{count} times"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the figures.

    Attributes:
        title: What is counted.
        heads: What the columns hold.
        rows: As many cells each as there are heads.
    """

    title: str
    heads: Row
    rows: tuple[Row, ...]


def lost_calls(calls: int, answered: int, errors: Mapping[str, int]) -> list[str]:
    """Return what to say of calls that ended without their answer; nothing if there are none."""
    if answered == calls:
        return []
    why = ", ".join(f"{count} {name}" for name, count in errors.items())
    return [f"{calls - answered} of {calls} calls lost ({why or 'no error was raised'})"]


def headline(calls: int, answered: int, seconds: float, problems: list[str]) -> str:
    """Return one sentence that says how a run went."""
    took = f"{seconds:.1f} s"
    if problems:
        return f"after {took}: {'; '.join(problems)}"
    return f"{answered} of {calls} calls answered in {took}, none lost"


def waits_section(tally: Tally) -> Section:
    """Return the waits by stage, longest first; seconds are summed over all calls."""
    waits = sorted(tally.waits.items(), key=lambda item: -item[1].seconds)
    rows = [(stage, str(wait.count), f"{wait.seconds:.1f} s") for stage, wait in waits]
    return Section("waits", ("stage", "waits", "sum of all calls"), tuple(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one run.

    Attributes:
        calls: How many were asked for.
        answered: How many came back with the answer that belongs to them.
        errors: What reached the caller instead, by error type.
        tally: What the policy's events said.
        sent: Attempts whose request left this process.
        seen: What the server counted, by kind of answer.
        seconds: How long all of it took.
    """

    calls: int
    answered: int
    errors: Mapping[str, int]
    tally: Tally
    sent: int
    seen: Mapping[str, int]
    seconds: float

    @property
    def problems(self) -> list[str]:
        """What is wrong; empty when all is well."""
        found = lost_calls(self.calls, self.answered, self.errors)
        if (server := sum(self.seen.values())) != self.sent:
            found.append(f"{self.sent} requests were sent, but the server saw {server}")
        return found

    @property
    def headline(self) -> str:
        """One sentence that says how it went."""
        return headline(self.calls, self.answered, self.seconds, self.problems)

    @property
    def facts(self) -> str:
        """The main figures in one line."""
        tally, openings = self.tally, self.tally.openings
        parts = [f"{tally.attempts_begun} attempts", f"{tally.retries.total()} retries"]
        if openings:
            parts.append(f"the circuit opened {times(openings)}")
        return ", ".join(parts)

    def sections(self) -> tuple[Section, ...]:
        """Return all figures, those by answer first."""
        return (self.answers(), self.retries(), waits_section(self.tally))

    def answers(self) -> Section:
        """Return what the server did, and what penstock made of it; both sides count."""
        attempts = self.tally.attempts
        rows: list[Row] = [
            (kind.value, str(self.seen.get(kind.value, 0)), str(attempts[verdict]), verdict.value)
            for kind, verdict in _SAME
        ]
        unsent = self.tally.attempts_begun - self.sent
        if unsent:
            rows.append(("(cut off before it was sent)", "", str(unsent), ""))
        rows.append(("in all", str(sum(self.seen.values())), str(self.tally.attempts_begun), ""))
        return Section("answers", ("answer", "server saw", "attempts", "verdict"), tuple(rows))

    def retries(self) -> Section:
        """Return the retries by what went before, most first."""
        retries = self.tally.retries
        rows = [(cause, str(count)) for cause, count in retries.most_common()]
        rows.append(("in all", str(retries.total())))
        return Section("retries", ("after", "retries"), tuple(rows))
