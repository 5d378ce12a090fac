"""Files and dicts to policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from penstock.config.build import Builder
from penstock.config.compose import Stop
from penstock.config.expand import Expander
from penstock.config.problems import ConfigFileError, Problem, nearest
from penstock.config.report import report
from penstock.config.sink import Sink
from penstock.config.source import read_bytes, read_document
from penstock.config.values import Surroundings
from penstock.errors import ConfigError
from penstock.policy import Policy

__all__ = [
    "Checked",
    "check",
    "check_text",
    "load",
    "load_dict",
    "policy_from_dict",
    "policy_from_yaml",
]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file holds, and what is wrong with it.

    Attributes:
        policies: By name, in the order of the file; empty where there are errors.
        problems: Errors and warnings, in the order of the file.
    """

    policies: dict[str, Policy]
    problems: tuple[Problem, ...]


def check(path: str | Path, **settings: Any) -> Checked:
    """Read a policy file and return what is in it and what is wrong with it.

    Modules that the file names by ``{python: ...}`` are imported.

    Args:
        path: The file.
        settings: As for ``Policy(...)``, for all its policies.

    Raises:
        OSError: The file cannot be read.
    """
    return _checked_text(read_bytes(path), settings, Path(path).parent)


def check_text(text: bytes, **settings: Any) -> Checked:
    """Do what ``check`` does with the text of a file; its paths begin in the working directory."""
    return _checked_text(text, settings, None)


def load(path: str | Path, **settings: Any) -> dict[str, Policy]:
    """Read all policies of a YAML file.

    Args:
        path: The file.
        settings: As for ``Policy(...)``, for what YAML cannot say; they win over the file's.

    Returns:
        The policies by name, in the order of the file. Stages under ``shared:`` are the same
        instances, with the same state, in all policies of one load.

    Raises:
        ConfigFileError: The file has mistakes; ``problems`` holds all of them as data.
        OSError: The file cannot be read.
    """
    return _policies(check(path, **settings), str(path))


def load_dict(data: Mapping[str, Any], **settings: Any) -> dict[str, Policy]:
    """Build all policies of what a YAML file would hold, as plain Python data.

    Raises:
        ConfigFileError: The data has mistakes; ``problems`` holds all of them, with their paths.
    """
    return _policies(_checked(data, Sink(), settings), "the data")


def policy_from_yaml(path: str | Path, name: str | None = None, **settings: Any) -> Policy:
    """Read one policy of a YAML file; see ``Policy.from_yaml``."""
    return _the_one(load(path, **settings), name, str(path))


def policy_from_dict(data: Mapping[str, Any], name: str | None = None, **settings: Any) -> Policy:
    """Build one policy of what a YAML file would hold; see ``Policy.from_dict``."""
    return _the_one(load_dict(data, **settings), name, "the data")


def _checked_text(text: bytes, settings: Mapping[str, Any], folder: Path | None) -> Checked:
    data, sink = read_document(text)
    return _checked({} if data is None and sink.problems else data, sink, settings, folder)


def _checked(
    data: Any, sink: Sink, settings: Mapping[str, Any], folder: Path | None = None
) -> Checked:
    policies: dict[str, Policy] = {}
    sink.data = data
    if not sink.problems or sink.mark is not None:
        try:
            around = Surroundings(folder, allow_literal=_allows_literal(data))
            expanded = Expander(sink, allow_literal=around.allow_literal).expand(data)
            policies = Builder(sink, settings, around).build(expanded)
        except Stop:
            policies = {}
    return Checked({} if sink.has_errors else policies, sink.in_order())


def _allows_literal(data: Any) -> bool:
    if not isinstance(data, Mapping):
        return False
    return cast("Mapping[str, Any]", data).get("allow_literal") is True


def _policies(checked: Checked, name: str) -> dict[str, Policy]:
    if not checked.policies:
        raise ConfigFileError(report(checked.problems, name), checked.problems)
    return checked.policies


def _the_one(policies: dict[str, Policy], name: str | None, source: str) -> Policy:
    known = ", ".join(policies)
    if name is None:
        if len(policies) == 1:
            return next(iter(policies.values()))
        raise ConfigError(f"{source} holds {len(policies)} policies; name one of {known}")
    if name not in policies:
        hint = nearest(name, policies) or f"it has {known}"
        raise ConfigError(f"{source} has no policy '{name}'; {hint}")
    return policies[name]
