"""The forms of "these failures" and of predicates: one, or a list of them."""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from penstock.config.forms.base import Form, Json, one_of, reference_json
from penstock.config.plain import is_list
from penstock.config.problems import Mistake, nearest, shown
from penstock.config.references import read_exception, read_reference
from penstock.verdict import VerdictKind

__all__ = ["Failures", "Several"]


class Several(Form):
    """Python objects named by reference: one, or a list."""

    example = '{python: "package.module:name"}'

    def words(self) -> str:
        """Return the form of a reference."""
        return f"a reference such as {Several.example}, or a list of them"

    def read(self, value: Any) -> Any:
        """Return what one of them names."""
        return read_reference(value)

    def json(self) -> Json:
        """Return one or a list."""
        one = self.json_of_one()
        return one_of([one, {"type": "array", "items": one, "minItems": 1}])

    def json_of_one(self) -> Json:
        """Return the schema of one of them."""
        return reference_json()

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a list, so that each wrong item is reported at its own place."""
        del handler
        one = core_schema.no_info_plain_validator_function(self.read)
        several = core_schema.list_schema(one, min_length=1)
        checked = core_schema.no_info_after_validator_function(self._together, several)
        return core_schema.no_info_before_validator_function(_as_list, checked)

    def _together(self, values: list[Any]) -> Any:
        return self.by_rule(tuple(values), values)


class Failures(Several):
    """Verdict kinds, exception types by name, and predicates by reference."""

    example = "[transient, timeout]"

    def words(self) -> str:
        """Return what a failure can be named by."""
        return (
            "a verdict kind (" + ", ".join(_KINDS) + "), an exception such as ConnectionError or "
            f"httpx.ConnectError, {Several.example}, or a list of them"
        )

    def read(self, value: Any) -> Any:
        """Return the kind, type or predicate that one of them names."""
        if not isinstance(value, str):
            return read_reference(value)
        if value in _KINDS:
            return str(value)
        named = read_exception(value)
        if named is None:
            hint = nearest(value, (*_KINDS, *_COMMON)) or "the kinds are " + ", ".join(_KINDS)
            raise Mistake(f"unknown failure {shown(value)} in '{self.option.name}'", hint)
        return named

    def json_of_one(self) -> Json:
        """Return a kind, a name or a reference."""
        name: Json = {"type": "string", "pattern": r"^[A-Za-z_]\w*(\.\w+)+$|^[A-Z]\w*$|\$\{"}
        return one_of([{"enum": list(_KINDS)}, name, reference_json()])


_NOT_FAILURES = (VerdictKind.OK, VerdictKind.CANCELLED)
_KINDS = tuple(kind.value for kind in VerdictKind if kind not in _NOT_FAILURES)
# Those that people retry on, for "did you mean".
_COMMON = ("ConnectionError", "TimeoutError", "OSError", "ConnectionResetError")


def _as_list(value: Any) -> list[Any]:
    return value if is_list(value) else [value]
