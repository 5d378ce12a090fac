"""Fallback: what answers when the rest of the pipeline has failed."""

from penstock.stages.fallback.options import MISSING, FallbackOptions
from penstock.stages.fallback.stage import Fallback

__all__ = ["MISSING", "Fallback", "FallbackOptions"]
