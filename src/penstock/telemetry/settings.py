"""What can be set on telemetry, for the whole program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penstock.options import Count, Flag, Options

__all__ = ["TelemetryOptions", "configure", "settings"]

# Every policy, operation and type of error multiplies the series of a metric, and a series costs
# some kilobytes in whatever keeps it. A program has some dozens of each; thousands are names made
# from data (a lambda per request, a policy per customer).
DEFAULT_MAX_NAMES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryOptions(Options):
    """Options of telemetry.

    Attributes:
        resource_ids: Whether metrics tell resources apart by their ids. Off by default: a pool of
            ten thousand proxies would make as many series of each metric.
        max_names: Most different policies, operations and types of error that metrics tell apart,
            from 1; those beyond are counted together, as ``other``.
    """

    stage: ClassVar[str] = "telemetry"

    resource_ids: Flag = False
    max_names: Count = DEFAULT_MAX_NAMES


_settings = TelemetryOptions()


def settings() -> TelemetryOptions:
    """Return what is set."""
    return _settings


def configure(*, resource_ids: bool = False, max_names: int = DEFAULT_MAX_NAMES) -> None:
    """Set what metrics tell apart, for the whole program.

    Call it before the first call is measured: names are counted from then on.

    Args:
        resource_ids: Whether metrics tell resources apart by their ids.
        max_names: Most different policies, operations and types of error, from 1; those beyond are
            counted together, as ``other``.

    Raises:
        ConfigError: A value is not allowed.
    """
    global _settings  # noqa: PLW0603 - one set of options for the program
    _settings = TelemetryOptions(resource_ids=resource_ids, max_names=max_names)
