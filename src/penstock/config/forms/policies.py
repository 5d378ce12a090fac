"""The form of another policy of the same file."""

from __future__ import annotations

from typing import Any, Protocol, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from pydantic_core.core_schema import ValidationInfo

from penstock.config.forms.base import Form, Json

__all__ = ["OtherPolicies", "PolicyName"]


class OtherPolicies(Protocol):
    """What knows the other policies while a file is read."""

    def policy(self, name: str) -> Any:
        """Return a policy of the file; raise ``Mistake`` where there is none of that name."""
        ...


class PolicyName(Form):
    """The name of another policy of the file."""

    example = "other"

    def words(self) -> str:
        """Return that it is a name."""
        return "the name of another policy of the file"

    def read(self, value: Any) -> Any:
        """Return what is not a name: a Policy of Python's; or None."""
        if hasattr(value, "call"):
            return value
        raise self.refuse(value)

    def json(self) -> Json:
        """Return a text."""
        return {"type": "string", "minLength": 1}

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a look-up among the other policies."""
        del handler
        return core_schema.with_info_plain_validator_function(self._look_up)

    def _look_up(self, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            return cast("OtherPolicies", info.context).policy(value)
        return self.read(value)
