"""The forms of rates and costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from penstock.config import units
from penstock.config.forms.base import Form, Json, one_of, reference_json
from penstock.config.forms.scalars import Real
from penstock.config.plain import is_list, is_mapping
from penstock.config.problems import Mistake, shown
from penstock.config.references import is_reference, read_reference
from penstock.stages.rate_limit import Rate

__all__ = ["Cost", "Rates"]


class Rates(Form):
    """A rate, a list of them, or a mapping of them by name."""

    example = "10/s"

    def words(self) -> str:
        """Return the three ways."""
        return "a rate such as 10/s, 600/min or 100/10s, a list of them, or a mapping by name"

    def read(self, value: Any) -> Any:
        """Return one rate."""
        return value if isinstance(value, Rate) else units.read_rate(value)

    def json(self) -> Json:
        """Return the three ways."""
        text: Json = {"type": "string", "pattern": rf"^{units.RATE}$|\$\{{"}
        several: Json = {"type": "array", "items": text, "minItems": 1}
        named: Json = {"type": "object", "additionalProperties": text, "minProperties": 1}
        return one_of([text, several, named])

    def takes_mapping(self, value: dict[str, Any]) -> bool:
        """Answer whether these are rates by name: every value is a scalar."""
        return bool(value) and not any(isinstance(rate, dict | list) for rate in value.values())

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a mapping of rates, so that each wrong one is reported at its own place."""
        del handler
        one = core_schema.no_info_plain_validator_function(self.read)
        several = core_schema.dict_schema(core_schema.any_schema(), one, min_length=1)
        checked = core_schema.no_info_after_validator_function(self._together, several)
        return core_schema.no_info_before_validator_function(_by_key, checked)

    def _together(self, rates: dict[Any, Rate]) -> Any:
        named = {key: rate for key, rate in rates.items() if isinstance(key, str)}
        return self.by_rule(named or list(rates.values()), list(rates))


class Cost(Form):
    """Units, units by the names of the rates, or a function."""

    example = "2"

    def words(self) -> str:
        """Return the three ways."""
        return "a number of at least 0, a mapping of numbers by rate, or a reference to a function"

    def read(self, value: Any) -> Any:
        """Return numbers for texts; a function for a reference."""
        if is_reference(value):
            return read_reference(value)
        if is_mapping(value):
            return {name: self._number(cost) for name, cost in value.items()}
        return value if callable(value) else self._number(value)

    def json(self) -> Json:
        """Return the three ways."""
        number = Real(self.option).json()
        named: Json = {"type": "object", "additionalProperties": number}
        return one_of([number, named, reference_json()])

    def _number(self, value: Any) -> Any:
        number = units.read_number(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Mistake(f"'cost' must be {self.words()}; got {shown(value)}")
        return number


def _by_key(value: Any) -> Mapping[Any, Any]:
    if is_mapping(value):
        return value
    return dict(enumerate(value if is_list(value) else [value]))
