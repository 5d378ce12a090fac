"""Every metric as data: ``docs/telemetry.md`` is compared with it by a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.telemetry.names import ERROR_TYPE, OPERATION, OUTCOME, POLICY, RESOURCE, VERDICT

__all__ = [
    "ACTIVE_CALLS",
    "ATTEMPT_DURATION",
    "CALL_DURATION",
    "CIRCUIT",
    "CIRCUIT_STATE",
    "CIRCUIT_STATES",
    "DROPPED_JOBS",
    "DURATION_BUCKETS",
    "LIMIT",
    "METRICS",
    "POOL",
    "QUEUED_CALLS",
    "QUEUED_JOBS",
    "RATE_LIMIT_AVAILABLE",
    "REASON",
    "REJECTIONS",
    "RESOURCE_STATE",
    "RESOURCE_STATES",
    "RETRIES",
    "RUNNING_JOBS",
    "STAGE",
    "STATE_OF_CIRCUIT",
    "STATE_OF_RESOURCE",
    "STATE_OF_WORKER",
    "WAIT_DURATION",
    "WORKER_STATE",
    "WORKER_STATES",
    "Metric",
]

STAGE = "penstock.stage"
CIRCUIT = "penstock.circuit.name"
POOL = "penstock.pool.name"
LIMIT = "penstock.rate_limit.name"
REASON = "penstock.reason"

# As in OpenMetrics, where the label of a set of states has the name of the metric.
STATE_OF_CIRCUIT = "penstock.circuit.state"
STATE_OF_RESOURCE = "penstock.resource.state"
STATE_OF_WORKER = "penstock.worker.state"

CIRCUIT_STATES = ("closed", "open", "half_open", "isolated")
RESOURCE_STATES = ("ready", "full", "probing", "cooling", "away", "disabled")
WORKER_STATES = ("starting", "up", "restarting", "parked", "stopping", "stopped")

# The boundaries that OpenTelemetry's conventions advise for the duration of HTTP requests, and
# three more: calls with retries and waits last longer than one request.
DURATION_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0),
)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: What it is called.
        kind: ``histogram``, ``counter``, ``up_down_counter`` or ``observable_gauge``.
        unit: In UCUM; words in braces are for people.
        about: What is measured.
        attributes: The names of what tells its series apart.
    """

    name: str
    kind: str
    unit: str
    about: str
    attributes: tuple[str, ...]

    def made_by(self, meter: Any, *callbacks: Any) -> Any:
        """Return the instrument.

        Args:
            meter: Makes it.
            callbacks: Take the readings of an observable gauge.
        """
        extra: dict[str, Any] = {}
        if self.kind == "histogram":
            extra["explicit_bucket_boundaries_advisory"] = DURATION_BUCKETS
        if callbacks:
            extra["callbacks"] = callbacks
        make = getattr(meter, f"create_{self.kind}")
        return make(self.name, unit=self.unit, description=self.about, **extra)


CALL_DURATION = Metric(
    "penstock.call.duration",
    "histogram",
    "s",
    "Duration of calls, waits and all attempts included.",
    (POLICY, OPERATION, OUTCOME, ERROR_TYPE),
)
ATTEMPT_DURATION = Metric(
    "penstock.attempt.duration",
    "histogram",
    "s",
    "Duration of attempts.",
    (POLICY, OPERATION, VERDICT, ERROR_TYPE, RESOURCE),
)
WAIT_DURATION = Metric(
    "penstock.wait.duration",
    "histogram",
    "s",
    "Time that calls waited, by what for.",
    (POLICY, STAGE),
)
RETRIES = Metric(
    "penstock.retries",
    "counter",
    "{retry}",
    "Attempts that failed and were followed by another.",
    (POLICY, OPERATION, VERDICT, ERROR_TYPE),
)
REJECTIONS = Metric(
    "penstock.rejections",
    "counter",
    "{call}",
    "Times a stage refused a call before the operation was started.",
    (POLICY, STAGE, ERROR_TYPE),
)
ACTIVE_CALLS = Metric(
    "penstock.active_calls",
    "up_down_counter",
    "{call}",
    "Calls under way, those that wait included.",
    (POLICY,),
)
QUEUED_CALLS = Metric(
    "penstock.queued_calls",
    "observable_gauge",
    "{call}",
    "Calls that wait in line at a stage.",
    (POLICY, STAGE),
)
CIRCUIT_STATE = Metric(
    "penstock.circuit.state",
    "observable_gauge",
    "1",
    "1 for the state that a circuit is in, 0 for the others.",
    (POLICY, CIRCUIT, STATE_OF_CIRCUIT),
)
RESOURCE_STATE = Metric(
    "penstock.resource.state",
    "observable_gauge",
    "1",
    "Resources of a pool in each state; by resource, 1 for its state and 0 for the others.",
    (POOL, RESOURCE, STATE_OF_RESOURCE),
)
RATE_LIMIT_AVAILABLE = Metric(
    "penstock.rate_limit.available",
    "observable_gauge",
    "1",
    "Units that could start now.",
    (POLICY, LIMIT),
)
QUEUED_JOBS = Metric(
    "penstock.queued_jobs",
    "observable_gauge",
    "{job}",
    "Jobs of a pool of workers that have not begun.",
    (POOL,),
)
RUNNING_JOBS = Metric(
    "penstock.running_jobs",
    "observable_gauge",
    "{job}",
    "Jobs of a pool of workers, and calls past its line, that are under way.",
    (POOL,),
)
DROPPED_JOBS = Metric(
    "penstock.dropped_jobs",
    "counter",
    "{job}",
    "Jobs of a pool of workers that were given up.",
    (POOL, OPERATION, REASON, ERROR_TYPE),
)
WORKER_STATE = Metric(
    "penstock.worker.state",
    "observable_gauge",
    "1",
    "Workers of a pool in each state.",
    (POOL, STATE_OF_WORKER),
)

METRICS = (
    CALL_DURATION,
    ATTEMPT_DURATION,
    WAIT_DURATION,
    RETRIES,
    REJECTIONS,
    ACTIVE_CALLS,
    QUEUED_CALLS,
    CIRCUIT_STATE,
    RESOURCE_STATE,
    RATE_LIMIT_AVAILABLE,
    QUEUED_JOBS,
    RUNNING_JOBS,
    DROPPED_JOBS,
    WORKER_STATE,
)
