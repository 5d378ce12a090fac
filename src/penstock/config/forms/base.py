"""What a form is: how one option is written in YAML, for reading, JSON Schema and documentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from penstock.config import units
from penstock.config.plain import is_list, is_mapping
from penstock.config.problems import Mistake, Reference, shown
from penstock.config.references import REFERENCE, is_reference, read_reference
from penstock.options import Rule

__all__ = [
    "SUBSTITUTED",
    "Form",
    "Json",
    "Option",
    "PlainForm",
    "PythonObject",
    "RuledForm",
    "one_of",
    "reference_json",
]

Json = dict[str, Any]

SUBSTITUTED: Json = {"type": "string", "pattern": r"\$\{"}
"""A text with a reference to the environment, which can stand for any scalar."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a stage, or of a policy.

    Attributes:
        name: The field, which is also the key.
        hint: The field's annotation.
        rule: Its rule; None where it has none.
        optional: True when null is allowed.
        default: Its default; ``dataclasses.MISSING`` where it is required.
        doc: Its description in the docstring of the options class.
    """

    name: str
    hint: Any
    rule: Rule | None
    optional: bool
    default: Any
    doc: str


class Form(ABC):
    """Base of the forms, which are pydantic annotations; each belongs to one option.

    Attributes:
        example: A value, as it is written.
        inside: What the mappings of this option may hold, by key.
    """

    example: str = ""
    inside: Mapping[str, Any] = {}

    def __init__(self, option: Option) -> None:
        self.option = option

    @abstractmethod
    def words(self) -> str:
        """Return what may be written, for messages and for the reference page."""

    @abstractmethod
    def read(self, value: Any) -> Any:
        """Return what the option's rule is given for a value.

        Raises:
            Mistake: The value cannot be read.
        """

    @abstractmethod
    def json(self) -> Json:
        """Return the JSON Schema of what may be written."""

    def write(self, value: Any) -> Any:
        """Return a value of the option as it is written; for defaults."""
        return value.value if isinstance(value, Enum) else value

    def takes_mapping(self, value: dict[str, Any]) -> bool:
        """Answer whether a mapping is a value of this option and not a stage's long form."""
        del value
        return False

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return how pydantic reads the option; a form with parts lets it look for theirs."""
        del handler
        return core_schema.no_info_plain_validator_function(self.checked)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        """Return the form as pydantic asks for it."""
        del source
        schema = self.core_schema(handler)
        return core_schema.nullable_schema(schema) if self.option.optional else schema

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> Json:
        """Return the JSON Schema, with description and default."""
        del schema, handler
        arms = [self.json(), {"type": "null"}] if self.option.optional else [self.json()]
        facts: Json = {"description": self.option.doc} if self.option.doc else {}
        default = self.write(self.option.default)
        # None stands for "not set", which is what leaving the key out says already.
        if default is None or isinstance(default, bool | int | float | str | list | dict):
            facts = facts if default is None else {**facts, "default": default}
        return {**facts, **one_of(arms)}

    def checked(self, value: Any) -> Any:
        """Read a value, and say what is allowed where the rule refuses it."""
        return self.by_rule(self.read(value), value)

    def by_rule(self, read: Any, value: Any) -> Any:
        """Return what the option's rule makes of a value that was read."""
        if self.option.rule is None:
            return read
        try:
            return self.option.rule.read(read)
        except ValueError:
            raise self.refuse(value) from None

    def refuse(self, value: Any, hint: str | None = None) -> Mistake:
        """Return the mistake for a value that is not allowed."""
        return Mistake(f"'{self.option.name}' must be {self.words()}; got {shown(value)}", hint)


class PlainForm(Form):
    """Whatever YAML can say; used where an option takes anything."""

    example = "[]"

    def words(self) -> str:
        """Return that anything may be written."""
        return "any value"

    def read(self, value: Any) -> Any:
        """Return the value without the memory of where its texts came from."""
        if is_mapping(value):
            return {key: self.read(item) for key, item in value.items()}
        if is_list(value):
            return [self.read(item) for item in value]
        return str(value) if isinstance(value, Reference) else value

    def json(self) -> Json:
        """Return the schema that allows everything."""
        return {}

    def write(self, value: Any) -> Any:
        """Return None: what stands for "not given" cannot be written."""
        return value if isinstance(value, str | int | float) else None


class RuledForm(Form):
    """What a rule without a form of its own reads: a scalar as it is, or a Python object."""

    def words(self) -> str:
        """Return the rule's own words."""
        return "any value" if self.option.rule is None else self.option.rule.allowed

    def read(self, value: Any) -> Any:
        """Resolve a reference; a percentage becomes a ratio."""
        return read_reference(value) if is_reference(value) else units.read_number(value)

    def json(self) -> Json:
        """Return the schema that allows everything: the rule is code."""
        return {}


class PythonObject(Form):
    """A function (or another object) of Python's, named by reference."""

    example = '{python: "package.module:name"}'

    def words(self) -> str:
        """Return the form of a reference."""
        return f"a reference such as {PythonObject.example}"

    def read(self, value: Any) -> Any:
        """Return what is named."""
        return read_reference(value)

    def json(self) -> Json:
        """Return a mapping with the key ``python``."""
        return reference_json()

    def takes_mapping(self, value: dict[str, Any]) -> bool:
        """Answer whether it is a reference."""
        return is_reference(value)


def reference_json() -> Json:
    """Return the JSON Schema of ``{python: "package.module:name"}``."""
    return {
        "type": "object",
        "properties": {"python": {"type": "string", "pattern": rf"^{REFERENCE}$|\$\{{"}},
        "required": ["python"],
        "additionalProperties": False,
    }


def one_of(arms: list[Json]) -> Json:
    """Return the schema that allows what any of these allows, without needless nesting."""
    flat = [inner for arm in arms for inner in (arm["anyOf"] if set(arm) == {"anyOf"} else [arm])]
    if {} in flat:
        return {}
    unique = [arm for place, arm in enumerate(flat) if arm not in flat[:place]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}
