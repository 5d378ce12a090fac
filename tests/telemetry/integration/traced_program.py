"""A program that makes HTTP calls under policies and sends everything to a collector.

Arguments: the service's URL, with credentials in it. The keys come in ``KEYS``, the collector's
address where OpenTelemetry looks for it. What the calls came to is printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable
from typing import Any

import httpx
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from penstock import Policy

URL = sys.argv[1]
KEYS = json.loads(os.environ["KEYS"])

search = (
    Policy("search")
    .with_timeout(10)
    .with_retry(4, wait=0.05)
    .with_rate("2/s", burst=1)
    .with_breaker(failures=9)
    .rotating(KEYS, name="keys", inject="key")
)
mail = Policy("mail").with_timeout(5).with_retry(2, wait=0.05).with_breaker(failures=2)
slow = Policy("slow").with_timeout(0.3)
plain = Policy("plain")


async def get(path: str, key: str) -> Any:
    """Ask the service, inside of a span as an instrumented client makes one."""
    # Its spans are no concern of penstock's; this one keeps error texts to itself as well.
    tracer = trace.get_tracer("client")
    with tracer.start_as_current_span("GET", record_exception=False, set_status_on_exception=False):
        async with httpx.AsyncClient(base_url=URL, trust_env=False, verify=False) as client:
            headers = {"x-api-key": key}
            response = await client.get(path, params={"key": key}, headers=headers)
            response.raise_for_status()
            return response.json()


async def fail() -> None:
    """Fail with a text that nobody outside may read."""
    raise ValueError(KEYS["first"])


async def result_of(call: Awaitable[Any]) -> Any:
    """Return what a call came to."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - its class is the result
        return type(error).__name__


async def calls() -> list[Any]:
    """Make every call."""
    key = KEYS["second"]
    using = search.using(request_id="req-1", tags={"tenant": "acme"})
    return [
        await result_of(using.call(get, "/search")),
        await result_of(mail.call(get, "/broken", key)),
        await result_of(mail.call(get, "/broken", key)),
        await result_of(slow.call(get, "/slow", key)),
        await result_of(plain.call(fail)),
    ]


def set_providers() -> list[Any]:
    """Set the SDK's providers, as its own pages show it."""
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    _logs.set_logger_provider(loggers)
    return [tracers, meters, loggers]


def main() -> None:
    """Call, and send what has been recorded."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # It writes whole URLs into its lines.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    providers = set_providers()
    results = asyncio.run(calls())
    for provider in providers:
        provider.shutdown()
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
