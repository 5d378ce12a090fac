"""What ``with_breaker`` makes of its arguments."""

from __future__ import annotations

from typing import Any

from penstock.stages.breaker.adapter import PybreakerStage
from penstock.stages.breaker.driver import is_pybreaker
from penstock.stages.breaker.options import BreakerOptions
from penstock.stages.breaker.stage import Breaker

__all__ = ["breaker_stage"]


# Any: BreakerOptions checks what it is given.
def breaker_stage(failures: Any = None, **options: Any) -> Breaker | PybreakerStage:
    """Return the stage for these options, or for the caller's own ``pybreaker.CircuitBreaker``.

    Args:
        failures: A ``CircuitBreaker``, or the option of this name.
        options: The other fields of ``BreakerOptions``; with a ``CircuitBreaker`` only ``probes``.

    Raises:
        ConfigError: A value is not allowed, or an option does not go with a ``CircuitBreaker``.
    """
    if not is_pybreaker(failures):
        return Breaker(BreakerOptions(failures=failures, **options))
    probes = options.pop("probes", 1)
    for name, value in options.items():
        raise BreakerOptions.refuse(name, value, "left out: the CircuitBreaker brings its own")
    return PybreakerStage(failures, probes)
