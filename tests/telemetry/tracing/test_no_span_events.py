from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from penstock import Policy
from penstock.testing import scripted

pytestmark = pytest.mark.virtual_time


@pytest.mark.finding(10)
async def test_happenings_are_log_events_and_not_events_of_spans(spans: Any, told: Any):
    """OpenTelemetry is doing away with those; no exception is recorded on a span either."""
    policy = Policy("search").with_retry(2, wait=1).with_breaker(failures=2)
    with pytest.raises(ConnectionError):
        await policy.call(scripted(then=ConnectionError("sk-secret")))

    (call,) = spans.roots()
    recorded = [call, *spans.below(call)]
    assert len(recorded) == 3
    assert {span.status.status_code for span in recorded} == {StatusCode.ERROR}
    assert [(span.events, span.status.description) for span in recorded] == [((), None)] * 3
    assert {"retry.scheduled", "circuit.state_changed"} <= set(told.names())
