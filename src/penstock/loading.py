"""The class methods that read a policy from YAML or from plain data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from penstock.policy import Policy

__all__ = ["Loadable"]


class Loadable:
    """``from_yaml`` and ``from_dict``; pydantic and PyYAML are imported when they are called."""

    __slots__ = ()

    @classmethod
    def from_yaml(
        cls, path: str | os.PathLike[str], name: str | None = None, **settings: Any
    ) -> Self:
        """Read a policy from a YAML file.

        Args:
            path: The file.
            name: Which of the file's policies; may be left out where there is only one.
            settings: As for ``Policy(...)``, for what YAML cannot say (observers, hooks).

        Raises:
            ConfigError: The file has mistakes; all are reported, each with line and column.
            OSError: The file cannot be read.
        """
        from penstock.config import policy_from_yaml  # noqa: PLC0415 - see the class

        return cls._adopt(policy_from_yaml(os.fspath(path), name, **settings))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str | None = None, **settings: Any) -> Self:
        """Build a policy from what a YAML file would hold, as plain Python data.

        Raises:
            ConfigError: The data has mistakes; all are reported, each with its path.
        """
        from penstock.config import policy_from_dict  # noqa: PLC0415 - see the class

        return cls._adopt(policy_from_dict(data, name, **settings))

    @classmethod
    def _adopt(cls, policy: Policy) -> Self:
        raise NotImplementedError
