"""Worker: a base class that says what a pool calls; any other class will do as well."""

from __future__ import annotations

__all__ = ["Worker"]


class Worker:
    """A worker of a pool; what it inherits from here does nothing.

    Each of the three methods may be sync or async, and may be left out.
    """

    async def start(self, index: int) -> None:
        """Open what the worker needs; called once before its first job, and after each restart.

        Args:
            index: The worker's place in its pool, from 0; given only where the parameter exists.
        """

    async def stop(self) -> None:
        """Close what ``start`` has opened; called once after its last job."""

    async def healthy(self) -> bool:
        """Return False to be started anew; asked every ``health_interval`` seconds."""
        return True
