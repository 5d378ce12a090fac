"""Collects the problems of one file, so that all of them are reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from penstock.config.marks import Mark, Position, Text
from penstock.config.problems import Level, Loc, Mistake, Problem, path_of

__all__ = ["Sink"]


class Sink:
    """Turns mistakes at a place in the data into problems at a place in the file.

    Attributes:
        text: The file's text; None for plain data.
        mark: The positions of everything in the file; None for plain data.
        data: The data as written.
        problems: What was found, in the order of finding.
    """

    def __init__(self, text: Text | None = None) -> None:
        self.text = text
        self.mark: Mark | None = None
        self.data: Any = None
        self.problems: list[Problem] = []
        self._settled: set[Loc] = set()
        self._met: set[object] = set()
        self._hidden: set[int | None] = set()

    def add(
        self,
        loc: Loc,
        mistake: Mistake,
        *,
        key: bool = False,
        level: Level = Level.ERROR,
    ) -> None:
        """Add what is wrong with the value (or its key) at ``loc``."""
        if mistake.field is not None:
            loc, key = (*loc, mistake.field), True
        if self._settled and any(loc[:n] in self._settled for n in range(len(loc) + 1)):
            return
        position = None
        if self.mark is not None:
            position, loc = self.mark.find(loc, key=key)
        else:
            loc = _written(self.data, loc)
        self.add_at(position, loc, mistake, level=level)

    def settle(self, loc: Loc, mistake: Mistake) -> None:
        """Add what is wrong with a value that nobody else need complain about."""
        self.add(loc, mistake)
        self._settled.add(loc)

    def add_at(
        self,
        position: Position | None,
        loc: Loc,
        mistake: Mistake,
        *,
        note: str | None = None,
        level: Level = Level.ERROR,
    ) -> None:
        """Add what is wrong at a position of the file."""
        problem = Problem(mistake.message, path_of(loc), hint=mistake.hint, note=note, level=level)
        if position is not None and self.text is not None:
            problem = replace(
                problem,
                line=position.line + 1,
                column=position.column + 1,
                width=position.width,
                source=self.text.line(position.line),
            )
        if mistake.hides:
            self._hidden.add(problem.line)
        # An anchored part is met once per alias, and stands in the file once.
        place = problem.path if problem.line is None else (problem.line, problem.column)
        if (place, problem.message) not in self._met:
            self._met.add((place, problem.message))
            self.problems.append(problem)

    @property
    def has_errors(self) -> bool:
        """True when something was found that refuses the file."""
        return any(problem.level is Level.ERROR for problem in self.problems)

    def in_order(self) -> tuple[Problem, ...]:
        """Return the problems in the order of the file, without the lines that may hold secrets."""
        shown = (
            replace(problem, source=None) if problem.line in self._hidden else problem
            for problem in self.problems
        )
        return tuple(sorted(shown, key=_position))


def _written(data: Any, loc: Loc) -> Loc:
    """Return the steps of ``loc`` that the data has; a short form lacks those of the long one."""
    taken: list[str | int] = []
    for step in loc:
        if isinstance(data, Mapping | Sequence) and not isinstance(data, str):
            try:
                data = cast("Any", data)[step]
            except (LookupError, TypeError):
                continue
            taken.append(step)
    return tuple(taken)


def _position(problem: Problem) -> tuple[int, int]:
    return (problem.line or 0, problem.column or 0)
