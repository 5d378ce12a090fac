"""Answers about the kind of a value that type checkers understand."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ["is_list", "is_mapping"]


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """Answer whether a value is a mapping; all keys of read data are texts."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Answer whether a value is a list."""
    return isinstance(value, list)
