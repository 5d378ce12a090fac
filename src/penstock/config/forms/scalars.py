"""The forms of single values: durations, numbers, words, texts."""

from __future__ import annotations

from typing import Any

from penstock.config import units
from penstock.config.forms.base import SUBSTITUTED, Form, Json, Option, one_of
from penstock.config.problems import Reference, nearest
from penstock.options import Choice, Number, Whole

__all__ = ["Boolean", "Duration", "Integer", "Name", "Real", "Word"]


class Duration(Form):
    """Seconds, written with a unit."""

    example = "30s"

    def words(self) -> str:
        """Return that it is a duration, and its bounds."""
        rule = self.option.rule
        exclusive = isinstance(rule, Number) and rule.exclusive
        return "a duration above 0, such as 30s" if exclusive else "a duration such as 30s, or 0"

    def read(self, value: Any) -> Any:
        """Return seconds; a timedelta is what it says."""
        return value if hasattr(value, "total_seconds") else units.read_duration(value)

    def write(self, value: Any) -> Any:
        """Return a text with the largest unit that leaves a short number."""
        return units.write_duration(value) if isinstance(value, int | float) else None

    def json(self) -> Json:
        """Return a text with a unit, or 0."""
        rule = self.option.rule
        above = isinstance(rule, Number) and rule.exclusive
        pattern = rf"^(?={'.*[1-9]' if above else '.'}){units.DURATION}$|\$\{{"
        text: Json = {"type": "string", "pattern": pattern}
        return text if above else one_of([text, {"enum": [0, "0"]}])


class Real(Form):
    """A number; a ratio may be a percentage."""

    example = "2.5"

    def __init__(self, option: Option) -> None:
        super().__init__(option)
        if self.bounds.maximum == 1:
            self.example = "20%"

    def words(self) -> str:
        """Return that it is a number, and its bounds."""
        rule = self.bounds
        if rule.maximum == 1:
            floor = "above 0" if rule.exclusive else "from 0"
            return f"a ratio {floor} to 1, or a percentage such as 50%"
        return rule.allowed

    def read(self, value: Any) -> Any:
        """Return the number that a text stands for."""
        is_ratio = self.bounds.maximum == 1
        if is_ratio and not isinstance(value, bool) and isinstance(value, int | float):
            if 1 < value <= 100:  # noqa: PLR2004 - the scale of a percentage
                raise self.refuse(value, f"did you mean '{value:g}%'?")
            return value
        if isinstance(value, str) and value.endswith("%") and not is_ratio:
            raise self.refuse(value)
        return units.read_number(value)

    def json(self) -> Json:
        """Return a number in its bounds, or a text that stands for one."""
        rule = self.bounds
        low = "exclusiveMinimum" if rule.exclusive else "minimum"
        number: Json = {"type": "number", low: rule.minimum}
        if rule.maximum is not None:
            number["maximum"] = rule.maximum
        percent = rf"|^{units.PERCENT}$" if rule.maximum == 1 else ""
        text: Json = {"type": "string", "pattern": rf"^{units.NUMBER}${percent}|\$\{{"}
        return one_of([number, text])

    @property
    def bounds(self) -> Number:
        """The bounds of the number."""
        rule = self.option.rule
        return rule if isinstance(rule, Number) else Number()


class Integer(Form):
    """A whole number."""

    example = "3"

    def words(self) -> str:
        """Return that it is a whole number, and its bound."""
        return self._rule.allowed

    def read(self, value: Any) -> Any:
        """Return the number that a text stands for."""
        return units.read_whole(value)

    def json(self) -> Json:
        """Return a number in its bounds, or a text that stands for one."""
        number: Json = {"type": "integer", "minimum": self._rule.minimum}
        return one_of([number, {"type": "string", "pattern": r"^\d+$|\$\{"}])

    @property
    def _rule(self) -> Whole:
        rule = self.option.rule
        return rule if isinstance(rule, Whole) else Whole()


class Boolean(Form):
    """True or false."""

    def __init__(self, option: Option) -> None:
        super().__init__(option)
        self.example = "false" if option.default is True else "true"

    def words(self) -> str:
        """Return the two words."""
        return "true or false"

    def read(self, value: Any) -> Any:
        """Return the value that a text stands for."""
        return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value

    def json(self) -> Json:
        """Return a boolean, or the text of one."""
        return one_of([{"type": "boolean"}, {"enum": ["true", "false"]}, SUBSTITUTED])


class Name(Form):
    """A text that is not empty."""

    example = "name"

    def words(self) -> str:
        """Return that it is a text."""
        return "a text that is not empty"

    def read(self, value: Any) -> Any:
        """Return the text without the memory of where it came from."""
        return str(value) if isinstance(value, Reference) else value

    def json(self) -> Json:
        """Return a text."""
        return {"type": "string", "minLength": 1}


class Word(Form):
    """One of a few words."""

    def words(self) -> str:
        """Return the words."""
        return "one of " + ", ".join(self._choices)

    def read(self, value: Any) -> Any:
        """Return the word."""
        if isinstance(value, str) and value not in self._choices:
            raise self.refuse(value, nearest(value, self._choices))
        return value

    def json(self) -> Json:
        """Return the words."""
        return one_of([{"enum": list(self._choices)}, SUBSTITUTED])

    @property
    def _choices(self) -> tuple[str, ...]:
        rule = self.option.rule
        return rule.words if isinstance(rule, Choice) else ()
