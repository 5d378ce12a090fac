"""What an option may be: one definition per field, read by Python, YAML, schema and docs alike.

An options class is a frozen dataclass whose fields are annotated with a rule::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class TimeoutOptions(Options):
        seconds: Seconds

Building it checks every field by its rule and raises a ``ConfigError`` that names the field, the
value and what is allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeGuard,
    get_args,
    get_origin,
    get_type_hints,
)

from penstock.errors import ConfigError

__all__ = [
    "MISSING",
    "Amount",
    "Choice",
    "Count",
    "CountFromZero",
    "Flag",
    "Name",
    "Number",
    "Options",
    "Ratio",
    "Rule",
    "Seconds",
    "SecondsFromZero",
    "Whole",
    "checked_cost",
    "in_seconds",
    "is_mapping",
    "rule_of",
]

# Compared with, not converted: a whole number that no float can hold is refused like infinity.
_LARGEST = sys.float_info.max


class _Missing(Enum):
    MISSING = "not given"


# For options to which None is a value like any other.
MISSING = _Missing.MISSING


class Rule:
    """Says which values a field may have.

    Attributes:
        allowed: The end of the sentence ``'field' must be ...``.
    """

    allowed: str

    def read(self, value: Any) -> Any:
        """Return the value in its stored form; raise ValueError where it is not allowed."""
        raise NotImplementedError


@dataclass(frozen=True)
class Number(Rule):
    """A finite real number within bounds.

    Attributes:
        unit: ``"s"`` for durations (timedelta is accepted, YAML asks for a unit), else ``""``.
        minimum: The smallest value allowed.
        maximum: The largest value allowed; None for no bound.
        exclusive: True when ``minimum`` itself is not allowed.
    """

    unit: str = ""
    minimum: float = 0.0
    maximum: float | None = None
    exclusive: bool = False

    @property  # derived here, stored in other rules
    def allowed(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """What is allowed, in words."""
        what = (
            "a finite number of seconds (or a timedelta)" if self.unit == "s" else "a finite number"
        )
        if self.maximum is not None:
            return f"{what} from {self.minimum:g} to {self.maximum:g}"
        return f"{what} {'above' if self.exclusive else 'of at least'} {self.minimum:g}"

    def read(self, value: Any) -> float:
        """Return the number; seconds for a timedelta."""
        if self.unit == "s" and isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not -_LARGEST <= value <= _LARGEST or value < self.minimum:
            raise ValueError
        if (self.exclusive and value == self.minimum) or (
            self.maximum is not None and value > self.maximum
        ):
            raise ValueError
        return value


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number from ``minimum`` up."""

    minimum: int = 1

    @property  # derived here, stored in other rules
    def allowed(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """What is allowed, in words."""
        return f"a whole number of at least {self.minimum}"

    def read(self, value: Any) -> int:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int) or value < self.minimum:
            raise ValueError
        return value


class _Flag(Rule):
    allowed = "true or false"

    def read(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value


class _Name(Rule):
    allowed = "a text that is not empty"

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        return value


@dataclass(frozen=True)
class Choice(Rule):
    """One of a few words, or the enum member that stands for it."""

    values: tuple[Any, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in order."""
        return tuple(str(v.value if isinstance(v, Enum) else v) for v in self.values)

    @property  # derived here, stored in other rules
    def allowed(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """What is allowed, in words."""
        return "one of " + ", ".join(self.words)

    def read(self, value: Any) -> Any:
        """Return the member (or word) that was meant."""
        for member in self.values:
            if value is member or value == (member.value if isinstance(member, Enum) else member):
                return member
        raise ValueError


Seconds = Annotated[float, Number(unit="s", exclusive=True)]
SecondsFromZero = Annotated[float, Number(unit="s")]
Amount = Annotated[float, Number(exclusive=True)]
Ratio = Annotated[float, Number(maximum=1.0)]
Count = Annotated[int, Whole(1)]
CountFromZero = Annotated[int, Whole(0)]
Flag = Annotated[bool, _Flag()]
Name = Annotated[str, _Name()]

_COST = Number()


class Options:
    """Base of every options dataclass: checks each field when it is built.

    Raises:
        ConfigError: A field has a value that its rule does not allow.
    """

    __slots__ = ()

    stage: ClassVar[str] = "options"

    def __post_init__(self) -> None:
        """Check every field that has a rule, and store its canonical form."""
        options: Any = type(self)
        for name, (rule, optional) in rules_of(options).items():
            value = getattr(self, name)
            if value is None and optional:
                continue
            object.__setattr__(self, name, self._read(name, rule, value))

    def _read(self, name: str, rule: Rule, value: Any) -> Any:
        try:
            return rule.read(value)
        except ValueError:
            raise self.refuse(name, value, rule.allowed) from None

    @classmethod
    def refuse(cls, name: str, value: object, allowed: str) -> ConfigError:
        """Return the error for a field, in the one wording all stages use."""
        return ConfigError(f"{cls.stage}: '{name}' must be {allowed}; got {value!r}")


@cache
def rules_of(options: type[Any]) -> dict[str, tuple[Rule, bool]]:
    """Return ``{field: (rule, None is allowed)}`` for the fields that have a rule."""
    hints = get_type_hints(options, include_extras=True)
    found = {f.name: rule_of(hints[f.name]) for f in fields(options)}
    return {name: (rule, optional) for name, (rule, optional) in found.items() if rule is not None}


def rule_of(hint: Any) -> tuple[Rule | None, bool]:
    """Return a type hint's rule, and whether None is allowed beside it."""
    if get_origin(hint) is Annotated:
        return next((m for m in get_args(hint)[1:] if isinstance(m, Rule)), None), False
    if get_origin(hint) is Literal:
        return Choice(get_args(hint)), False
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Choice(tuple(hint)), False
    arms = get_args(hint)
    if NoneType in arms:
        others = [arm for arm in arms if arm is not NoneType]
        return (rule_of(others[0])[0] if len(others) == 1 else None), True
    return None, False


def in_seconds(duration: Any) -> Any:
    """Return a timedelta as seconds, and everything else as it is, to be checked as an option."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether this is a mapping; a plain ``isinstance`` leaves its types unknown to checkers."""
    return isinstance(value, Mapping)


def checked_cost(field: str, cost: Any) -> Any:
    """Return a cost (units, or units by limit name) that is finite and at least 0.

    Raises:
        ConfigError: It is negative, NaN, infinite or no number.
    """
    if not is_mapping(cost):
        _check_amounts(field, cost, (cost,))
        return cost
    by_name: dict[str, Any] = dict(cost)
    _check_amounts(field, by_name, by_name.values())
    return MappingProxyType(by_name)


def _check_amounts(field: str, cost: object, amounts: Iterable[object]) -> None:
    for amount in amounts:
        try:
            _COST.read(amount)
        except ValueError:
            msg = (
                f"{field} must be {_COST.allowed}, or a mapping of them by limit name; got {cost!r}"
            )
            raise ConfigError(msg) from None
