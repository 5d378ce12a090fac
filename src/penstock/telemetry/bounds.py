"""Keeping the number of series small, whatever names a program makes up."""

from __future__ import annotations

__all__ = ["Bounds", "Distinct"]


class Distinct:
    """Passes so many different names on; those beyond become one.

    Args:
        most: How many, from 1.
        beyond: The word for the others.
    """

    __slots__ = ("_beyond", "_known", "_most")

    def __init__(self, most: int, beyond: str = "other") -> None:
        self._most = most
        self._beyond = beyond
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return the name, or the word for those beyond."""
        known = self._known
        if name in known:
            return name
        if len(known) >= self._most:
            return self._beyond
        known.add(name)
        return name


class Bounds:
    """What the metrics of one provider tell apart.

    Args:
        most: Names of each kind, from 1.
    """

    __slots__ = ("error_type", "operation", "policy")

    def __init__(self, most: int) -> None:
        self.policy = Distinct(most)
        self.operation = Distinct(most)
        # The word that OpenTelemetry's conventions have for it.
        self.error_type = Distinct(most, "_OTHER")
