"""The forms of what retry waits and when it stops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from penstock.config.block import Block
from penstock.config.forms.base import Json, one_of, reference_json
from penstock.config.forms.scalars import Duration, Real
from penstock.config.plain import is_mapping
from penstock.config.problems import Mistake, nearest, shown
from penstock.config.references import is_reference, read_reference
from penstock.options import Number
from penstock.stages.retry import SHAPES, Backoff, Jitter

__all__ = ["JitterForm", "Stop", "Wait"]

_JITTERS = tuple(jitter.value for jitter in Jitter)


class JitterForm(Real):
    """A kind of jitter, or a ratio."""

    @property
    def bounds(self) -> Number:
        """The bounds of the ratio."""
        return Number(maximum=1.0)

    def words(self) -> str:
        """Return the kinds."""
        return "one of " + ", ".join(_JITTERS) + ", or a ratio from 0 to 1 such as 10%"

    def read(self, value: Any) -> Any:
        """Return the kind, or the ratio that a text stands for."""
        if value in _JITTERS:
            return str(value)
        number = super().read(value)
        if isinstance(number, str):
            raise self.refuse(value, nearest(value, _JITTERS))
        return number

    def json(self) -> Json:
        """Return the kinds, and a ratio."""
        return one_of([{"enum": list(_JITTERS)}, super().json()])


class Stop(Duration):
    """A duration, or a Python object."""

    def words(self) -> str:
        """Return the two ways."""
        return f"{super().words()}, or a reference to a function or a tenacity stop"

    def read(self, value: Any) -> Any:
        """Return seconds, or what is named."""
        if is_reference(value) or callable(value):
            return read_reference(value)
        return super().read(value)

    def json(self) -> Json:
        """Return the two ways."""
        return one_of([super().json(), reference_json()])


class Wait(Duration):
    """A duration, a shape of back-off with its options, or a Python object."""

    example = "{exponential: {initial: 200ms, max: 10s, jitter: full}}"
    inside: Mapping[str, Block] = {
        name: Block(
            name,
            shape,
            short="seconds" if name == "constant" else "initial",
            forms={"jitter": JitterForm} if hasattr(shape, "jitter") else {},
        )
        for name, shape in SHAPES.items()
    }

    def words(self) -> str:
        """Return the three ways."""
        shapes = ", ".join(SHAPES)
        return f"a duration, a shape ({shapes}) with its options, or a reference to a function"

    def write(self, value: Any) -> Any:
        """Return the shape's name and those of its options that are not None."""
        if not isinstance(value, Backoff):
            return super().write(value)
        name = next(name for name, shape in SHAPES.items() if shape is type(value))
        forms = self.inside[name].fields
        written = {key: form.write(getattr(value, key)) for key, form in forms.items()}
        return {name: {key: each for key, each in written.items() if each is not None}}

    def json(self) -> Json:
        """Return the three ways."""
        shapes: Json = {
            "type": "object",
            "properties": {name: block.json_schema() for name, block in self.inside.items()},
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        }
        words = [name for name, block in self.inside.items() if block.stands_alone]
        return one_of([super().json(), {"enum": words}, shapes, reference_json()])

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a mapping of the ways, of which one is taken."""
        ways = {
            name: core_schema.typed_dict_field(
                handler.generate_schema(Annotated[block.options, block]), required=False
            )
            for name, block in self.inside.items()
        }
        for name, read in (("python", self._named), (_PLAIN, super().read)):
            plain = core_schema.no_info_plain_validator_function(read)
            ways[name] = core_schema.typed_dict_field(plain, required=False)
        mapping = core_schema.typed_dict_schema(ways, extra_behavior="forbid")
        checked = core_schema.no_info_after_validator_function(self._the_one, mapping)
        return core_schema.no_info_before_validator_function(self._as_mapping, checked)

    def _named(self, value: Any) -> Any:
        return read_reference({"python": value} if isinstance(value, str) else value)

    def _as_mapping(self, value: Any) -> Any:
        if is_mapping(value):
            if len(value) != 1:
                raise self.refuse(value, "write one shape")
            return value
        if isinstance(value, str) and value in self.inside:
            return {value: None}
        if isinstance(value, str) and (near := nearest(value, self.inside)):
            raise Mistake(f"unknown wait {shown(value)}", near)
        if isinstance(value, Backoff) or callable(value):
            return {"python": value}
        return {_PLAIN: value}

    def _the_one(self, ways: dict[str, Any]) -> Any:
        value = next(iter(ways.values()))
        return self.by_rule(value, value)


# No key of a file is empty after validation, so this one is free for a value without a key.
_PLAIN = ""
