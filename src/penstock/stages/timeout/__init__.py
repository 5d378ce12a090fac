"""Timeout: by when a call, or one attempt of it, must have ended."""

from penstock.stages.timeout.options import TimeoutOptions
from penstock.stages.timeout.stage import OverrideTimeout, Timeout

__all__ = ["OverrideTimeout", "Timeout", "TimeoutOptions"]
