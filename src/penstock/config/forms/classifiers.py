"""The forms of "what it means": the name of a preset, or a function of the user's."""

from __future__ import annotations

from typing import Any

from penstock.classify import presets_for
from penstock.config.forms.base import SUBSTITUTED, Json, PythonObject, one_of
from penstock.config.forms.failures import Several
from penstock.config.plain import is_mapping
from penstock.config.problems import Mistake, nearest, shown

__all__ = ["Classifiers", "ResultClassifier"]

_FOR_FAILURES = presets_for("failures")
_FOR_RESULTS = presets_for("results")


class Classifiers(Several):
    """Names of presets, and functions by reference: one, or a list."""

    example = "openai"

    def words(self) -> str:
        """Return the names and the form of a reference."""
        return (
            f"the name of a preset ({', '.join(_FOR_FAILURES)}), a reference such as "
            f"{PythonObject.example}, or a list of them"
        )

    def read(self, value: Any) -> Any:
        """Return the name or the function."""
        if not _may_name(value):
            raise self.refuse(value)
        return _named(self.option.name, value, _FOR_FAILURES) or super().read(value)

    def json_of_one(self) -> Json:
        """Return a name or a reference."""
        return one_of([{"enum": list(_FOR_FAILURES)}, SUBSTITUTED, super().json_of_one()])

    def _together(self, values: list[Any]) -> Any:
        # As it was written, so that one function is still that function.
        return values[0] if len(values) == 1 else tuple(values)


class ResultClassifier(PythonObject):
    """The name of a preset that has statuses, or a function."""

    example = "http"

    def words(self) -> str:
        """Return the two ways."""
        return f"the name of a preset ({', '.join(_FOR_RESULTS)}), or {super().words()}"

    def read(self, value: Any) -> Any:
        """Return the name or the function."""
        if not _may_name(value):
            raise self.refuse(value)
        return _named(self.option.name, value, _FOR_RESULTS) or super().read(value)

    def json(self) -> Json:
        """Return the two ways."""
        return one_of([{"enum": list(_FOR_RESULTS)}, SUBSTITUTED, super().json()])


def _may_name(value: Any) -> bool:
    return isinstance(value, str) or is_mapping(value) or callable(value)


def _named(option: str, value: Any, names: tuple[str, ...]) -> str | None:
    if not isinstance(value, str):
        return None
    if value in names:
        return str(value)
    near = nearest(value, names)
    known = f"presets are {', '.join(names)}"
    hint = f"{near} {known}" if near else known
    raise Mistake(f"unknown preset {shown(value)} in '{option}'", hint)
