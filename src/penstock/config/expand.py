"""Data as written to data as meant: copied, bounded, ``${NAME}`` replaced, no literal secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, cast

from penstock.config.compose import MOST_DEPTH, MOST_NODES, Stop
from penstock.config.problems import Loc, Mistake, Reference, looks_secret, shown
from penstock.config.sink import Sink
from penstock.options import is_mapping

__all__ = ["Expander"]

_PART = re.compile(r"\$\$|\$\{(?P<inside>[^{}]*)\}|(?P<bad>\$\{)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:-|:\?)(?P<rest>.*))?", re.DOTALL)
_FORMS = "write ${NAME}, ${NAME:-default}, ${NAME:?message} or $$"


class Expander:
    """Copies data, replacing references to the environment.

    Args:
        sink: Where mistakes go.
        allow_literal: True where a literal that looks like a key is let through.
        environment: Where names are looked up; None for the process's own environment.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        allow_literal: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._sink = sink
        self._allow_literal = allow_literal
        self._environment = os.environ if environment is None else environment
        self._nodes = 0

    def expand(self, data: Any, loc: Loc = ()) -> Any:
        """Return the copy.

        Raises:
            Stop: The data is too deep or too much, as data that contains itself is.
        """
        self._nodes += 1
        if self._nodes > MOST_NODES:
            self._stop(loc[:3], f"more than {MOST_NODES} values")
        if len(loc) > MOST_DEPTH:
            self._stop(loc[:3], f"nested more than {MOST_DEPTH} levels deep")
        if is_mapping(data):
            return self._mapping(data, loc)
        if isinstance(data, list | tuple):
            items = cast("list[Any]", data)
            return [self.expand(item, (*loc, place)) for place, item in enumerate(items)]
        return self._text(data, loc) if isinstance(data, str) else data

    def _mapping(self, data: Mapping[Any, Any], loc: Loc) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, value in data.items():
            if isinstance(key, str) and _is_text(key):
                copy[key] = self.expand(value, (*loc, key))
            else:
                self._sink.add(loc, Mistake(f"a key must be a text; got {shown(key)}"))
        return copy

    def _text(self, text: str, loc: Loc) -> str:
        if looks_secret(text) and not self._allow_literal:
            hint = "write ${NAME} and set NAME in the environment"
            self._sink.settle(loc, Mistake("this looks like a key, which has no place here", hint))
        elif not _is_text(text):
            self._sink.settle(loc, Mistake("half of a surrogate pair is not a character"))
        elif "$" in text:
            try:
                return self._replaced(text)
            except Mistake as mistake:
                self._sink.settle(loc, mistake)
        return text

    def _replaced(self, text: str) -> str:
        value = _PART.sub(self._value_of, text)
        return value if "${" not in text else Reference.of(value, text)

    def _value_of(self, found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        inside = None if found["bad"] else _INSIDE.fullmatch(found["inside"])
        if inside is None:
            raise Mistake(f"a reference that cannot be read: {shown(found[0])}", _FORMS)
        name, how = inside["name"], inside["how"]
        value = self._environment.get(name)
        if how is None:
            if value is None:
                hint = f"set it, or write ${{{name}:-default}}"
                raise Mistake(f"environment variable '{name}' is not set", hint)
            return value
        if value:
            return value
        if how == ":-":
            return cast("str", inside["rest"])
        reason = inside["rest"].strip() or "it is not set, or empty"
        raise Mistake(f"environment variable '{name}': {reason}")

    def _stop(self, loc: Loc, message: str) -> None:
        self._sink.add(loc, Mistake(message))
        raise Stop


def _is_text(text: str) -> bool:
    return all(not "\ud800" <= letter <= "\udfff" for letter in text)
