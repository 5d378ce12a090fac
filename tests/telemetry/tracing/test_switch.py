"""When calls are traced, and what it costs those that are not."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from penstock import Call, ConfigError, Event, Handler, Policy, Pool
from penstock.events import AttemptStarted
from penstock.switch import LIVE
from penstock.testing import EventLog, scripted

pytestmark = pytest.mark.virtual_time


class Look:
    """A stage that remembers what it saw."""

    def __init__(self) -> None:
        self.notify: list[Any] = []
        self.spans: list[Any] = []

    async def __call__(self, call: Call, call_next: Handler) -> Any:
        """Look, and go on."""
        self.notify.append(call.notify)
        self.spans.append(trace.get_current_span())
        return await call_next(call)


async def test_a_provider_counts_whenever_it_is_set(monkeypatch: pytest.MonkeyPatch, spans):
    """After the policy was built, and after its first call; and it may be taken away again."""
    provider = trace.get_tracer_provider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    policy = Policy("ask")
    await policy.call(scripted("done", name="find"))
    assert spans.tree() == []

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    await policy.call(scripted("done", name="find"))
    assert len(spans.tree()) == 2

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    await policy.call(scripted("done", name="find"))
    assert spans.tree() == []


async def test_telemetry_can_be_switched_off(spans):
    """For one policy, and for what is made of it."""
    policy = Policy("ask", telemetry=False).with_retry(2)

    await policy.call(scripted("done"))
    await policy.fresh().using(timeout=3).call(scripted("done"))

    assert spans.tree() == []


async def test_telemetry_can_be_switched_off_in_a_file(spans):
    """By a word of the policy's."""
    for word, traced in ((False, 0), (True, 2)):
        settings = {"pipeline": [{"retry": 2}], "telemetry": word}
        policy = Policy.from_dict({"version": 1, "policies": {"ask": settings}})

        await policy.call(scripted("done"))

        assert len(spans.tree()) == traced


@pytest.mark.parametrize("telemetry", [None, 1, "off"])
def test_telemetry_is_on_or_off(telemetry: Any):
    """Anything else is refused when the policy is built."""
    with pytest.raises(ConfigError, match="policy: 'telemetry' must be True or False; got"):
        Policy(telemetry=telemetry)


async def test_a_call_with_a_limit_of_its_own_is_traced(spans):
    """As any other."""
    await Policy("ask").using(timeout=3).call(scripted("done", name="find"))

    assert len(spans.tree()) == 2


async def test_what_is_sampled_out_runs_the_plain_pipeline(monkeypatch: pytest.MonkeyPatch):
    """With its span current, so that what is traced inside is sampled out as well."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    look = Look()

    await Policy("ask").with_stage(look).call(scripted("done"))

    assert look.notify == [None]
    (span,) = look.spans
    assert span.get_span_context().is_valid
    assert not span.is_recording()
    assert not trace.get_current_span().get_span_context().is_valid


async def test_suppressed_instrumentation_is_respected(spans):
    """An exporter that calls through a policy must not export that."""
    token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        await Policy("ask").call(scripted("done"))
    finally:
        context.detach(token)

    assert spans.tree() == []


class Runtime:
    """Keeps the current context in its own way, as somebody else's may."""

    def __init__(self) -> None:
        self.kept: list[Context] = [Context()]

    def attach(self, new: Context) -> object:
        """Make a context the current one."""
        self.kept.append(new)
        return object()

    def get_current(self) -> Context:
        """Return the current one."""
        return self.kept[-1]

    def detach(self, token: object) -> None:
        """Make the one before it the current one."""
        self.kept.pop()


async def test_a_runtime_context_of_another_kind_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, spans
):
    """OpenTelemetry lets the program choose one."""
    runtime = Runtime()
    monkeypatch.setattr(context, "_RUNTIME_CONTEXT", runtime)
    look = Look()

    await Policy("ask").with_stage(look).call(scripted("done"))

    assert [span.name for span in look.spans] == ["ask scripted"]
    assert len(runtime.kept) == 1
    assert len(spans.tree()) == 2


async def test_observers_are_told_of_a_traced_call(spans):
    """Of everything, in the same order as without."""
    log, without = EventLog(), EventLog()
    operation = scripted(ConnectionError, "done", ConnectionError, "done")

    await Policy("ask", observers=[log]).with_retry(2, 1).call(operation)
    await Policy("ask", observers=[without], telemetry=False).with_retry(2, 1).call(operation)

    assert log.names() == without.names()
    assert len(spans.tree()) == 3


async def test_no_event_is_built_for_spans_alone(monkeypatch: pytest.MonkeyPatch, spans):
    """They would cost a traced call as much as a fifth of its spans."""
    built: list[str] = []

    def spy(self: Event, **facts: Any) -> None:
        built.append(type(self).__name__)

    monkeypatch.setattr(AttemptStarted, "__init__", spy)

    await Policy("ask").call(scripted("done"))

    assert built == []
    assert len(spans.tree()) == 2


async def test_the_call_keeps_nothing_of_its_recorder(spans):
    """Together they would be a cycle; nothing is left to the collector."""
    kept: list[Call] = []

    async def keep(call: Call, call_next: Handler) -> Any:
        kept.append(call)
        return await call_next(call)

    policy = Policy("ask").with_retry(2, 0).with_stage(keep)
    await policy.call(scripted(OSError, "done"))

    assert kept[0].notify is None
    kept.clear()
    gc.collect()
    gc.disable()
    try:
        await policy.call(scripted(OSError, "done"))
        kept.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert len(spans.roots()) == 2


def test_a_policy_is_known_for_as_long_as_it_is_used():
    """By what gauges look at."""
    policy = Policy("known only here").with_retry(2)
    policy.run_sync(scripted(then="done"))

    assert [bound.stages for bound in list(LIVE) if bound.policy == policy.name] == [policy.stages]

    del policy
    gc.collect()
    assert "known only here" not in {bound.policy for bound in list(LIVE)}


async def test_a_pool_is_watched_once_per_policy_name():
    """Programs make a policy per request over one pool."""
    pool = Pool(["a"])

    for _ in range(3):
        await Policy("ask").rotating(pool, inject=None).call(scripted("done"))

    assert len(pool._hooks) <= 2


@pytest.mark.integration
@pytest.mark.parametrize("imported", [False, True])
def test_opentelemetry_is_imported_by_the_program_or_by_nobody(imported: bool):
    """And ``penstock.telemetry`` only in the first case."""
    script = f"""
{"import opentelemetry.trace" if imported else ""}
import sys
from penstock import Policy
async def operation(): return 1
Policy("ask").run_sync(operation)
print("opentelemetry" in sys.modules, "penstock.telemetry" in sys.modules)
"""

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == [str(imported)] * 2


@pytest.mark.integration
def test_an_api_that_cannot_be_imported_is_reported_once_and_breaks_nothing():
    """One that is too old, for example."""
    script = """
import sys, types
sys.modules["opentelemetry.context"] = types.ModuleType("opentelemetry.context")
sys.modules["opentelemetry"] = types.ModuleType("opentelemetry")
import logging
logging.basicConfig(format="%(message)s")
from penstock import Policy
async def operation(): return 1
policy = Policy("ask")
print(policy.run_sync(operation) + policy.run_sync(operation))
"""

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["2"]
    assert ran.stderr.count("penstock.telemetry could not be imported") == 1
    assert logging.getLogger("penstock")
