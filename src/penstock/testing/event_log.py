"""An observer that remembers: what happened, in order, for a test to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from typing import TypeVar

from penstock.events import Event

__all__ = ["EventLog"]

E = TypeVar("E", bound=Event)


class EventLog:
    """Keeps every event it is given; pass it as one of a policy's ``observers``.

    Attributes:
        events: All of them, in order.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def clear(self) -> None:
        """Forget everything so far."""
        self.events.clear()

    def names(self) -> list[str]:
        """Return the events' class names in order, for comparing whole histories."""
        return [type(event).__name__ for event in self.events]

    def of(self, kind: type[E], **facts: object) -> list[E]:
        """Return the events of one type whose fields have the given values.

        Raises:
            TypeError: Events of this type have no such field.
        """
        unknown = facts.keys() - {field.name for field in fields(kind)}
        if unknown:
            raise TypeError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
        return [e for e in self.events if isinstance(e, kind) and _has(e, facts)]

    def only(self, kind: type[E], **facts: object) -> E:
        """Return the one event of this type with these values.

        Raises:
            AssertionError: There is none, or more than one; the message shows the whole log.
        """
        found = self.of(kind, **facts)
        if len(found) != 1:
            raise AssertionError(
                f"expected one {_wanted(kind, facts)}, found {len(found)} in:\n{self}"
            )
        return found[0]

    def assert_none(self, kind: type[Event], **facts: object) -> None:
        """Check that no event of this type has these values.

        Raises:
            AssertionError: There is one; the message shows the whole log.
        """
        if found := self.of(kind, **facts):
            raise AssertionError(
                f"expected no {_wanted(kind, facts)}, found {len(found)} in:\n{self}"
            )

    def __str__(self) -> str:
        return "\n".join(map(_line, self.events)) or "(no events)"


def _has(event: Event, facts: dict[str, object]) -> bool:
    return all(getattr(event, name) == value for name, value in facts.items())


def _wanted(kind: type[Event], facts: dict[str, object]) -> str:
    return f"{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in facts.items())})"


def _line(event: Event) -> str:
    facts = {f.name: getattr(event, f.name) for f in fields(event)}
    at = facts.pop("at")
    told = ", ".join(f"{name}={_word(v)!r}" for name, v in facts.items() if v is not None)
    return f"{at:12.6f}  {type(event).__name__}({told})"


def _word(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
