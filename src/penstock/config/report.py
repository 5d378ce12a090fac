"""Problems as text: position, line, caret, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penstock.config.problems import Level, Problem

__all__ = ["Line", "Part", "report", "report_lines"]

# A report of more is read from its top, and the rest may well be echoes.
_MOST_PROBLEMS = 50
_MOST_COLUMNS = 110
_BEFORE = 40

Part = tuple[str, str]
"""A style ("error", "warning", "place", "source", "caret", "note", "") and a text."""

Line = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a long line that is shown."""

    text: str
    column: int
    width: int

    @classmethod
    def of(cls, problem: Problem) -> _Window:
        # What a terminal would obey is not printed; a tab would move the caret.
        source = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", problem.source or "")
        start = (problem.column or 1) - 1
        left = 0 if len(source) <= _MOST_COLUMNS else max(0, start - _BEFORE)
        text = source[left : left + _MOST_COLUMNS]
        width = max(1, min(problem.width, len(text) - (start - left)))
        dots = "..." if left else ""
        return cls(dots + text, start - left + len(dots), width)


def report(problems: Sequence[Problem], name: str) -> str:
    """Return the whole report as plain text.

    Args:
        problems: In the order in which they are to be reported.
        name: The file, or what the data is called.
    """
    return "\n".join("".join(text for _, text in line) for line in report_lines(problems, name))


def report_lines(problems: Sequence[Problem], name: str) -> Iterator[Line]:
    """Yield the lines of the report, each as parts with a style."""
    for problem in problems[:_MOST_PROBLEMS]:
        yield from _lines_of(problem, name)
    errors = sum(problem.level is Level.ERROR for problem in problems)
    warnings = len(problems) - errors
    more = len(problems) - _MOST_PROBLEMS
    if more > 0:
        yield (("note", f"... and {more} more"),)
    counts = [f"{n} {word}(s)" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    if counts:
        yield (("", f"{' and '.join(counts)} in {name}"),)


def _lines_of(problem: Problem, name: str) -> Iterator[Line]:
    level = problem.level.value
    place = problem.path or name
    if problem.line is not None:
        place = f"{name}:{problem.line}:{problem.column}"
    head: Line = (("place", f"{place}: "), (level, f"{level}: "), ("", problem.message))
    if problem.line is None:
        hint = f" ({problem.hint})" if problem.hint else ""
        yield (*head, ("note", hint))
        return
    yield head
    margin = " " * (len(str(problem.line)) + 2)
    if problem.source:
        window = _Window.of(problem)
        yield (("place", f"  {problem.line} | "), ("source", window.text))
        caret = " " * window.column + "^" * window.width
        hint = f" {problem.hint}" if problem.hint else ""
        yield (("place", f"{margin} | "), ("caret", caret), ("note", hint))
    elif problem.hint:
        yield (("place", f"{margin} = "), ("note", problem.hint))
    if problem.note:
        yield (("place", f"{margin} = "), ("note", f"note: {problem.note}"))
