"""Rate limit: how many calls may start in a span of time."""

from penstock.stages.rate_limit.build import rate_stage
from penstock.stages.rate_limit.options import RateLimitOptions
from penstock.stages.rate_limit.rate import Rate
from penstock.stages.rate_limit.reservation import Reservation
from penstock.stages.rate_limit.stage import RateLimit

__all__ = ["Rate", "RateLimit", "RateLimitOptions", "Reservation", "rate_stage"]
