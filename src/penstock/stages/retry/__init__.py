"""Retry: call again after a failure that may pass."""

from penstock.stages.retry.backoff import (
    SHAPES,
    Backoff,
    Constant,
    Decorrelated,
    Exponential,
    Fibonacci,
    Jitter,
    Linear,
    Smooth,
)
from penstock.stages.retry.options import RetryOptions
from penstock.stages.retry.stage import Retry

__all__ = [
    "SHAPES",
    "Backoff",
    "Constant",
    "Decorrelated",
    "Exponential",
    "Fibonacci",
    "Jitter",
    "Linear",
    "Retry",
    "RetryOptions",
    "Smooth",
]
