"""What ``policy.using(...)`` may set: checked here, and only ever tighter than before."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from penstock.call import Overrides
from penstock.errors import ConfigError
from penstock.options import Number, Whole, checked_cost, is_mapping

__all__ = ["tightened"]

_SECONDS = Number(unit="s", exclusive=True)
_COUNT = Whole(1)


def tightened(base: Overrides, **given: Any) -> Overrides:
    """Return ``base`` with what was given laid over it; bounds only ever get tighter.

    Raises:
        ConfigError: A value is not allowed.
    """
    timeout = _read("timeout", _SECONDS, given["timeout"])
    attempts = _read("attempts", _COUNT, given["attempts"])
    priority = given["priority"]
    if priority is not None and (isinstance(priority, bool) or not isinstance(priority, int)):
        raise _refuse("priority", priority, "a whole number")
    return Overrides(
        timeout=_least(base.timeout, timeout),
        attempts=_least(base.attempts, attempts),
        cost=base.cost if given["cost"] is None else checked_cost("using: 'cost'", given["cost"]),
        priority=base.priority if priority is None else priority,
        key=base.key if given["key"] is None else _text("key", given["key"]),
        request_id=base.request_id
        if given["request_id"] is None
        else _text("request_id", given["request_id"]),
        tags=base.tags if given["tags"] is None else _tags(base.tags, given["tags"]),
    )


def _read(name: str, rule: Number | Whole, value: Any) -> Any:
    if value is None:
        return None
    try:
        return rule.read(value)
    except ValueError:
        raise _refuse(name, value, rule.allowed) from None


def _refuse(name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"using: '{name}' must be {allowed}; got {value!r}")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _refuse(name, value, "a text that is not empty")
    return value


def _tags(base: Mapping[str, str], tags: Any) -> Mapping[str, str]:
    if not is_mapping(tags):
        raise _refuse("tags", tags, "a mapping of text to text")
    added = dict(tags)
    if not all(isinstance(text, str) for text in (*added, *added.values())):
        raise _refuse("tags", added, "a mapping of text to text")
    return MappingProxyType({**base, **added})


def _least(base: Any, given: Any) -> Any:
    if base is None or given is None:
        return base if given is None else given
    return min(base, given)
