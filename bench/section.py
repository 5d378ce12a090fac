"""What a benchmark hands in: tables, what they mean, and the goals they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Cell", "Goal", "Section", "Table"]

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach.

    Attributes:
        what: What is measured, with its unit.
        measured: What came out; None where a contestant is not installed.
        most: The largest figure that is good.
    """

    what: str
    measured: float | None
    most: float

    @property
    def verdict(self) -> str:
        """One word: reached, missed or unknown."""
        if self.measured is None:
            return "unknown"
        return "reached" if self.measured <= self.most else "missed"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; a float is printed with as many digits as it can have."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The result of one benchmark."""

    name: str
    title: str
    about: str
    tables: Sequence[Table]
    goals: Sequence[Goal] = ()
