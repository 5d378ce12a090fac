"""The form of what a policy rotates over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from pydantic_core.core_schema import ValidationInfo

from penstock.config.block import refused
from penstock.config.forms.base import Form, Json, one_of
from penstock.config.forms.listed import ENTRY, entry_json
from penstock.config.listed import SOURCES, ListedResource
from penstock.config.plain import is_list, is_mapping
from penstock.config.problems import Mistake
from penstock.config.produced import read_produced
from penstock.config.values import Pairs, Surroundings, read_literal, read_values
from penstock.errors import ConfigError
from penstock.pools.given import resources_of
from penstock.pools.resource import Resource, is_resource
from penstock.stages.rotation.options import is_pool

__all__ = ["Resources"]


class Resources(Form):
    """Where resources come from, a list of such sources, or of plain names."""

    example = '{env: SEARCH_KEYS, split: ","}'
    inside = ENTRY.fields

    def words(self) -> str:
        """Return the ways."""
        return (
            f"a source such as {self.example} ({', '.join(SOURCES)}), or a list of sources and "
            "of plain names such as gpu-0"
        )

    def read(self, value: Any) -> Any:
        """Return what YAML cannot say: a pool."""
        if is_pool(value):
            return value
        advice = "in a list" if not isinstance(value, str) else 'as {env: NAME, split: ","}'
        raise self.refuse(value, f"write it {advice}")

    def json(self) -> Json:
        """Return a source, or a list."""
        source = entry_json()
        one = one_of([source, {"type": ["string", "number"]}])
        return one_of([source, {"type": "array", "items": one, "minItems": 1}])

    def takes_mapping(self, value: dict[str, Any]) -> bool:
        """Answer whether it says where resources come from."""
        return any(name in value for name in SOURCES)

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a list of sources, so that each mistake is reported at its own place."""
        source = handler.generate_schema(Annotated[ListedResource, ENTRY])
        one = core_schema.with_info_wrap_validator_function(self._one, source)
        several = core_schema.list_schema(one, min_length=1)
        checked = core_schema.no_info_after_validator_function(self._together, several)
        return core_schema.no_info_before_validator_function(self._as_list, checked)

    def _as_list(self, value: Any) -> list[Any]:
        if is_list(value):
            return value
        return [value if is_mapping(value) else self.read(value)]

    def _one(
        self, value: Any, read_source: Callable[[Any], ListedResource], info: ValidationInfo
    ) -> list[Any]:
        around = getattr(info.context, "surroundings", None) or Surroundings()
        if is_mapping(value):
            return _made(read_source(value), around)
        return [value if is_pool(value) else read_literal(value, around)]

    def _together(self, found: list[list[Any]]) -> Any:
        given = [each for several in found for each in several]
        if len(given) == 1 and is_pool(given[0]):
            return given[0]
        if any(map(is_pool, given)):
            raise Mistake("a pool stands alone: it has all its resources")
        try:
            return resources_of(given)
        except ConfigError as error:
            raise refused(error) from None


def _made(entry: ListedResource, around: Surroundings) -> list[Any]:
    pairs: Pairs = read_produced(entry) if entry.python is not None else read_values(entry, around)
    try:
        return [_resource(id, value, entry) for id, value in pairs]  # noqa: A001
    except ConfigError as error:
        raise Mistake(refused(error).message) from None


def _resource(id: str | None, value: Any, entry: ListedResource) -> Any:  # noqa: A002
    if is_pool(value):
        return value
    if not is_resource(value):
        return Resource(value, id, **entry.settings)
    if id is not None:
        value.name(id)
    return value
