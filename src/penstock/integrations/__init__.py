"""Adapters for the SDKs that people call; each imports its SDK, and nothing else here does."""

from __future__ import annotations

__all__ = ["missing"]


def missing(package: str, extra: str) -> ImportError:
    """Return the error for an SDK that is not installed; raise it from the original one.

    Args:
        package: What could not be imported, by the name that people know it by.
        extra: The extra of penstock that brings it.
    """
    return ImportError(
        f"{package} is not installed; install it with: pip install 'penstock[{extra}]'"
    )
