"""Which providers are set, and what is to be done about events while they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as _trace
from opentelemetry._logs import _internal as _logs
from opentelemetry.metrics import _internal as _metrics

from penstock.events import Event
from penstock.telemetry.bounds import Bounds
from penstock.telemetry.faults import report
from penstock.telemetry.gauges import Gauges
from penstock.telemetry.log_events import LogEvents, has_log_events
from penstock.telemetry.metrics import Metrics
from penstock.telemetry.names import SCHEMA_URL, SCOPE
from penstock.telemetry.settings import settings

if TYPE_CHECKING:
    from penstock.telemetry.recorder import Recorder

__all__ = ["Plan", "Sink", "current_plan", "is_on", "sinks_for", "version"]

Sink = Callable[[Event, "Recorder | None"], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done about calls while these providers are set.

    Attributes:
        providers: Of traces, metrics and logs; None where none is set.
        tracer: Starts spans; None where no provider of traces is set.
        sinks: Take every event.
    """

    providers: tuple[Any, Any, Any]
    tracer: _trace.Tracer | None
    sinks: tuple[Sink, ...]


def is_on() -> bool:
    """Return True while a provider of traces, metrics or logs is set."""
    # What the API's own getters look at first; they would cost every call ten times as much.
    return (
        _trace._TRACER_PROVIDER is not None  # noqa: SLF001
        or _metrics._METER_PROVIDER is not None  # noqa: SLF001
        or _logs._LOGGER_PROVIDER is not None  # noqa: SLF001
    )


def current_plan() -> Plan:
    """Return the plan for the providers that are set; made anew when they change."""
    global _plan  # noqa: PLW0603 - one set of providers at a time
    tracers, meters, loggers = _plan.providers
    if (
        tracers is not _trace._TRACER_PROVIDER  # noqa: SLF001 - as above
        or meters is not _metrics._METER_PROVIDER  # noqa: SLF001
        or loggers is not _logs._LOGGER_PROVIDER  # noqa: SLF001
    ):
        _plan = _made()
    return _plan


def sinks_for(meters: Any, loggers: Any) -> tuple[Sink, ...]:
    """Return what takes every event while these providers are set.

    Args:
        meters: The provider of metrics; None where none is set.
        loggers: The provider of logs; None where none is set.
    """
    sinks: list[Sink] = []
    makers = (("meter provider", meters, _metrics_of), ("logger provider", loggers, _log_events_of))
    for part, provider, make in makers:
        try:
            sinks.extend(() if provider is None else make(provider))
        except Exception as error:  # noqa: BLE001 - what is broken takes nothing else along
            report(part, error)
    return tuple(sinks)


def _metrics_of(meters: Any) -> tuple[Sink, ...]:
    meter = meters.get_meter(SCOPE, version(), schema_url=SCHEMA_URL)
    bounds = Bounds(settings().max_names)
    # The meter keeps them: they are read, and take no events.
    Gauges(meter, bounds)
    return (Metrics(meter, bounds),)


def _log_events_of(loggers: Any) -> tuple[Sink, ...]:
    if not has_log_events():
        return ()
    return (LogEvents(loggers.get_logger(SCOPE, version(), schema_url=SCHEMA_URL)),)


def version() -> str:
    """Return the version of penstock, for the instrumentation scope."""
    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        return "0"


def _made() -> Plan:
    providers = (
        _trace._TRACER_PROVIDER,  # noqa: SLF001
        _metrics._METER_PROVIDER,  # noqa: SLF001
        _logs._LOGGER_PROVIDER,  # noqa: SLF001
    )
    tracers, meters, loggers = providers
    tracer = None
    try:
        if tracers is not None:
            tracer = tracers.get_tracer(SCOPE, version(), schema_url=SCHEMA_URL)
    except Exception as error:  # noqa: BLE001 - what is broken takes nothing else along
        report("tracer provider", error)
    return Plan(providers, tracer, sinks_for(meters, loggers))


_plan = Plan((None, None, None), None, ())
