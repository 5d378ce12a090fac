"""The forms of what a pool may be told."""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from penstock.config.forms.base import SUBSTITUTED, Json, PythonObject, one_of
from penstock.config.forms.scalars import Duration, Name
from penstock.config.plain import is_list
from penstock.config.problems import nearest
from penstock.pools.options import PICKS

__all__ = ["Cooldown", "Dimension", "Inject", "Pick"]


class Cooldown(Duration):
    """A duration, or a list of them."""

    example = "[30s, 2m, 5m, 10m]"

    def words(self) -> str:
        """Return the two ways."""
        return "a duration such as 30s, or 0, or a list of them"

    def write(self, value: Any) -> Any:
        """Return a list of texts."""
        return [super(Cooldown, self).write(step) for step in value]

    def json(self) -> Json:
        """Return the two ways."""
        one = super().json()
        return one_of([one, {"type": "array", "items": one, "minItems": 1}])

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a list, so that each wrong item is reported at its own place."""
        del handler
        one = core_schema.no_info_plain_validator_function(self.read)
        several = core_schema.list_schema(one, min_length=1)
        checked = core_schema.no_info_after_validator_function(self._together, several)
        return core_schema.no_info_before_validator_function(_as_list, checked)

    def _together(self, steps: list[float]) -> Any:
        return self.by_rule(steps, steps)


class Pick(PythonObject):
    """The word for a picker, or a picker of the user's."""

    example = "most_remaining"

    def words(self) -> str:
        """Return the words."""
        return "one of " + ", ".join(PICKS) + ", or a reference to a picker"

    def read(self, value: Any) -> Any:
        """Return the word, or what is named."""
        if not isinstance(value, str):
            return super().read(value)
        if value not in PICKS:
            raise self.refuse(value, nearest(value, PICKS))
        return str(value)

    def json(self) -> Json:
        """Return the two ways."""
        return one_of([{"enum": list(PICKS)}, super().json(), SUBSTITUTED])


class Dimension(PythonObject):
    """The name of a keyword argument, or a function of the call."""

    example = "model"

    def words(self) -> str:
        """Return the two ways."""
        return "the name of a keyword argument, or a reference to a function of the call"

    def read(self, value: Any) -> Any:
        """Return the name, or what is named."""
        return str(value) if isinstance(value, str) else super().read(value)

    def json(self) -> Json:
        """Return the two ways."""
        return one_of([{"type": "string", "minLength": 1}, super().json()])


class Inject(Name):
    """How the operation is given the resource."""

    example = "api_key"

    def words(self) -> str:
        """Return the three ways."""
        return "first, the name of a keyword argument, or null"


def _as_list(value: Any) -> list[Any]:
    return value if is_list(value) else [value]
