"""Where everything in a file stands: the data's shape with positions in place of values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from penstock.config.problems import Loc, masked

__all__ = ["Mark", "Position", "Text"]

# PyYAML counts all of these as the end of a line.
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class Position(NamedTuple):
    """A place on one line, counted from 0, and how far it reaches."""

    line: int
    column: int
    width: int = 1


class YamlMark(Protocol):
    """What PyYAML calls a mark."""

    line: int
    column: int


@dataclass(slots=True)
class Mark:
    """The position of one value, and of what is in it.

    Attributes:
        at: Where the value stands.
        keys: Where each key of a mapping stands.
        values: The marks of the values by key, or by index.
    """

    at: Position
    keys: dict[str | int, Position] = field(default_factory=dict[str | int, Position])
    values: dict[str | int, Mark] = field(default_factory=dict[str | int, "Mark"])

    def find(self, loc: Loc, *, key: bool = False) -> tuple[Position, Loc]:
        """Return the position of a value, and the part of ``loc`` that the file has.

        Steps that the file does not have are passed over: a short form is read as a long one, whose
        keys nobody wrote.

        Args:
            loc: The way from here to the value.
            key: True for the position of its key.
        """
        mark, position = self, self.at
        taken: list[str | int] = []
        for step in loc:
            below = mark.values.get(step)
            if below is not None:
                position = mark.keys.get(step, below.at) if key else below.at
                mark = below
                taken.append(step)
        return position, tuple(taken)


class Text:
    """A file's text, for showing lines of it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: list[str] | None = None

    def line(self, number: int) -> str:
        """Return a line, from 0, with what looks like a key masked; empty past the end."""
        if self._lines is None:
            self._lines = _LINE_END.split(self._text)
        return masked(self._lines[number]) if number < len(self._lines) else ""

    def span(self, start: YamlMark | None, end: YamlMark | None) -> Position:
        """Return the part of the first line that lies between two of PyYAML's marks."""
        if start is None or end is None:  # pragma: no cover - events of a parser have marks
            return Position(0, 0)
        stop = end.column if end.line == start.line else len(self.line(start.line))
        return Position(start.line, start.column, max(1, stop - start.column))

    def position_of(self, index: int) -> Position:
        """Return the position of the character at ``index``."""
        before = _LINE_END.split(self._text[:index])
        return Position(len(before) - 1, len(before[-1]))
