"""A whole options class as it is written in YAML: a mapping, or its one value in short form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Annotated, Any, cast, get_type_hints

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, ErrorDetails, ValidationError, core_schema

from penstock.config.docstrings import described, summary
from penstock.config.forms.base import Form, Json, Option, one_of
from penstock.config.forms.choose import form_for
from penstock.config.plain import is_mapping
from penstock.config.problems import Loc, Mistake, nearest, shown
from penstock.errors import ConfigError
from penstock.options import Options, rules_of

__all__ = ["Block", "Slip", "refused"]

FormType = type[Form]


@dataclass(frozen=True)
class Slip:
    """One mistake inside a block.

    Attributes:
        loc: Where, from the block's own value.
        mistake: What.
        at_key: True when the key is to blame, not the value.
    """

    loc: Loc
    mistake: Mistake
    at_key: bool = False


@dataclass(frozen=True)
class Block:
    """One options class, as pydantic reads it.

    Attributes:
        key: The word for it in YAML.
        options: The options class; its fields are the keys.
        short: The field that a value which is no mapping is for; None where there is no short form.
        forms: The forms of fields for which the one that follows from the rule is not right.
    """

    key: str
    options: type[Options]
    short: str | None = None
    forms: Mapping[str, FormType] = field(default_factory=dict[str, FormType])

    @cached_property
    def fields(self) -> dict[str, Form]:
        """The form of each field: the required ones first, else in the order of the class."""
        rules = rules_of(cast("Any", self.options))
        hints = get_type_hints(self.options, include_extras=True)
        docs = described(self.options)
        forms: dict[str, Form] = {}
        given = fields(cast("Any", self.options))
        for each in sorted(given, key=lambda one: one.default is not MISSING):
            rule, optional = rules.get(each.name, (None, each.default is None))
            default = each.default
            doc = docs.get(each.name, "")
            option = Option(each.name, hints[each.name], rule, optional, default, doc)
            forms[each.name] = self.forms.get(each.name, form_for)(option)
        return forms

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Reads a value and returns the options."""
        annotated: Any = Annotated[self.options, self]
        return TypeAdapter(annotated)

    @property
    def required(self) -> tuple[str, ...]:
        """The fields without a default."""
        return tuple(n for n, form in self.fields.items() if form.option.default is MISSING)

    @property
    def stands_alone(self) -> bool:
        """True when the key without any option is enough."""
        try:
            self.options()
        except (TypeError, ConfigError, Mistake):
            return False
        return True

    @property
    def summary(self) -> str:
        """The first sentence of the class's docstring."""
        return summary(self.options)

    def json_schema(self) -> Json:
        """Return the JSON Schema of the value, short and long form."""
        return self.adapter.json_schema(schema_generator=_Untitled)

    def read(self, value: Any, context: object = None) -> tuple[Any, list[Slip]]:
        """Return the options, or None and every mistake in the value.

        Args:
            value: As in the file.
            context: What forms may ask for, such as the other policies of the file.
        """
        try:
            return self.adapter.validate_python(value, context=context), []
        except ValidationError as error:
            errors = error.errors(include_url=False)
        # Beside an unknown key, the one that is missing is what the unknown key was meant for.
        misspelt = {each["loc"][:-1] for each in errors if each["type"] == "extra_forbidden"}
        told = [e for e in errors if e["type"] != "missing" or e["loc"][:-1] not in misspelt]
        return None, [self._slip(each) for each in told]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        """Return the class as a mapping, between the short form and the dataclass."""
        del source
        members = {
            name: core_schema.typed_dict_field(
                handler.generate_schema(Annotated[Any, form]),
                required=form.option.default is MISSING,
            )
            for name, form in self.fields.items()
        }
        mapping = core_schema.typed_dict_schema(members, extra_behavior="forbid")
        built = core_schema.no_info_after_validator_function(self._build, mapping)
        return core_schema.no_info_before_validator_function(self._as_long, built)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> Json:
        """Return the long form and, where there is one, the short form."""
        long = {"description": self.summary, **handler(schema)}
        arms = [long]
        if self.short is not None:
            described_short = self.fields[self.short].__get_pydantic_json_schema__(schema, handler)
            bare = {k: v for k, v in described_short.items() if k not in {"description", "default"}}
            arms = [bare, long]
        if self.stands_alone:
            arms.append({"type": "null"})
        return one_of(arms)

    def _as_long(self, value: Any) -> Any:
        if value is None:
            return {}
        if self.short is None or (is_mapping(value) and not self._is_short(value)):
            return value
        return {self.short: value}

    def _is_short(self, value: dict[str, Any]) -> bool:
        form = self.fields[self.short or ""]
        # A key that is nearly an option's name is a slip of the pen, and not the name of a rate.
        free = [key for key in value if key not in form.inside]
        return form.takes_mapping(value) and not any(nearest(key, self.fields) for key in free)

    def _build(self, values: dict[str, Any]) -> Options:
        try:
            return self.options(**values)
        except ConfigError as error:
            raise refused(error) from None

    def _slip(self, error: ErrorDetails) -> Slip:
        loc, kind = error["loc"], error["type"]
        inner = error.get("ctx", {}).get("error")
        if isinstance(inner, Mistake):
            return Slip(loc, inner)
        what, known = self._known_at(loc)
        name = str(loc[-1]) if loc else self.key
        match kind:
            case "extra_forbidden":
                hint = nearest(name, known) or f"known are {', '.join(known)}"
                mistake = Mistake(f"unknown key {shown(name)} in '{what}'", hint)
                return Slip(loc, mistake, at_key=True)
            case "missing":
                is_bare = name == self.short and len(loc) == 1 and not error["input"]
                key, needed = (what, "a value") if is_bare else (name, f"'{name}'")
                example = f"for example '{key}: {known[name].example}'"
                return Slip(loc[:-1], Mistake(f"'{what}' needs {needed}", example), at_key=True)
            case "too_short":
                return Slip(loc, Mistake(f"'{name}' must not be empty"))
            case _:
                return Slip(loc, Mistake(f"'{name}' must be a mapping"))

    def _known_at(self, loc: Loc) -> tuple[str, Mapping[str, Any]]:
        """Return the word for the mapping in which ``loc[-1]`` stands, and what it may hold."""
        what, known = self.key, cast("Mapping[str, Any]", self.fields)
        for step in loc[:-1]:
            # The items of a list are of one kind.
            if isinstance(step, int):
                continue
            below = known.get(step)
            what = step
            known = below.fields if isinstance(below, Block) else getattr(below, "inside", {})
        return what, known


def refused(error: ConfigError) -> Mistake:
    """Return what a class of Python's says of its options, in the words of a file."""
    message = re.sub(r"^[\w.]+: |; got None$", "", str(error))
    named = re.match(r"'(\w+)' must", message)
    return Mistake(message, field=named[1] if named else None)


class _Untitled(GenerateJsonSchema):
    """Leaves out titles: they say the key once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False."""
        del schema
        return False
