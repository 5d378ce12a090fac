"""What tracing costs a call: without an SDK, sampled out, and recording, against spans by hand."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

from bench.harness import Effort, Operation, Timings, compare, run_loop, succeed
from bench.section import Goal, Section, Table
from penstock import Policy

__all__ = ["run"]

_ABOUT = (
    "One policy of retry and timeout round a coroutine function that returns at once, called with "
    "telemetry and with `telemetry=False`; the difference is what a row says. *By hand* is what "
    "OpenTelemetry's documentation shows: two nested `start_as_current_span`, with the attributes "
    "that the spans of the call carry. *Without an SDK* the API is imported and no provider is "
    "set. *Sampled out* is an SDK whose sampler says no; the next row is what the SDK's own "
    "`start_span` takes of that. *Recording* is an SDK with a batch processor, whose exporter "
    "drops everything; its thread's time counts. Each is measured in a process of its own, for a "
    "provider can be set once."
)

_NO_SDK, _SAMPLED_OUT, _RECORDING = "without an SDK", "sampled out", "recording"

_OFF, _ON, _BY_HAND, _START = (
    "telemetry=False",
    "penstock",
    "two spans by hand",
    "the SDK's start_span alone",
)

_OPERATION = {"penstock.policy.name": "bench", "penstock.operation": "succeed"}


def run(effort: Effort, loop: str) -> Section:
    """Measure each way in a process of its own."""
    # A fresh interpreter each time: a fork would inherit the provider.
    spawn = multiprocessing.get_context("spawn")
    costs: dict[str, Mapping[str, Sequence[float]]] = {}
    for way in (_NO_SDK, _SAMPLED_OUT, _RECORDING):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            costs[way] = pool.submit(_measured, way, effort, loop).result()
    added = {way: _added(rounds) for way, rounds in costs.items()}
    recording = costs[_RECORDING]
    ratio = median(
        ours / theirs
        for ours, theirs in zip(
            _differences(recording, _ON), _differences(recording, _BY_HAND), strict=True
        )
    )
    return Section(
        name="telemetry",
        title="Telemetry",
        about=_ABOUT,
        tables=[
            Table(
                columns=("SDK", "who", "added, µs"),
                rows=[(way, who, cost) for way, row in added.items() for who, cost in row.items()],
            )
        ],
        goals=[
            Goal("telemetry without an SDK: µs per call", added[_NO_SDK][_ON], 0.3),
            Goal("telemetry sampled out: µs per call", added[_SAMPLED_OUT][_ON], 5.0),
            Goal("telemetry recording: multiple of two spans by hand", ratio, 1.2),
        ],
    )


def _added(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {who: median(_differences(rounds, who)) for who in (_BY_HAND, _ON, _START)}


def _differences(rounds: Mapping[str, Sequence[float]], who: str) -> list[float]:
    return [spent - off for spent, off in zip(rounds[who], rounds[_OFF], strict=True)]


def _measured(way: str, effort: Effort, loop: str) -> Mapping[str, Sequence[float]]:
    """Set a provider, and time everybody."""
    # Not above: every other benchmark would be measured with the API imported.
    from opentelemetry import trace  # noqa: PLC0415

    if way != _NO_SDK:
        trace.set_tracer_provider(_provider(is_recording=way == _RECORDING))

    async def main() -> Timings:
        return await compare(_contestants(trace.get_tracer("bench")), effort)

    return run_loop(main(), loop).rounds


def _provider(*, is_recording: bool) -> Any:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - not without an SDK
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON  # noqa: PLC0415

    class Dropping(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

    provider = TracerProvider(sampler=ALWAYS_ON if is_recording else ALWAYS_OFF)
    provider.add_span_processor(BatchSpanProcessor(Dropping()))
    return provider


def _policy(**settings: Any) -> Policy:
    return Policy("bench", **settings).with_retry(3).with_timeout(5)


def _contestants(tracer: Any) -> dict[str, Operation]:
    off, on = _policy(telemetry=False), _policy()

    async def start() -> Any:
        tracer.start_span("bench succeed", attributes=_OPERATION)
        return await off.call(succeed)

    return {
        _OFF: lambda: off.call(succeed),
        _ON: lambda: on.call(succeed),
        _BY_HAND: _by_hand(off.call, tracer),
        _START: start,
    }


def _by_hand(call: Callable[..., Any], tracer: Any) -> Operation:
    async def traced() -> Any:
        quiet = {"record_exception": False, "set_status_on_exception": False}
        with tracer.start_as_current_span("bench succeed", attributes=_OPERATION, **quiet) as outer:
            number = {"penstock.attempt.number": 1}
            with tracer.start_as_current_span("attempt", attributes=number, **quiet) as inner:
                result = await call(succeed)
                inner.set_attribute("penstock.verdict", "ok")
            outer.set_attributes({"penstock.attempts": 1, "penstock.outcome": "success"})
        return result

    return traced
