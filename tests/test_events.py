"""Events: frozen, comparable, and able to leave the process."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
from enum import Enum
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    CircuitOpenError,
    CooldownResource,
    Policy,
    VerdictKind,
    events,
)
from penstock.events import CallEnded, Event
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time

KINDS = [getattr(events, name) for name in events.__all__ if name not in ("Event", "Observer")]

# A call without a pool of workers does not meet these.
OF_WORKERS = {kind for kind in KINDS if kind.__name__.startswith(("Worker", "Job"))}


def _make(kind: type[Event]) -> Event:
    values: dict[str, Any] = {
        "str": "text",
        "float": 1.5,
        "int": 2,
        "VerdictKind": VerdictKind.TIMEOUT,
        "str | None": "maybe",
        "float | None": None,
    }
    return kind(**{f.name: values[str(f.type)] for f in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_cannot_be_changed(kind: type[Event]):
    """Observers share it, and none can spoil it for the next."""
    event = _make(kind)

    with pytest.raises(dataclasses.FrozenInstanceError):
        event.policy = "another"  # type: ignore[misc]
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError, AttributeError)):
        event.extra = 1  # type: ignore[attr-defined]
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_arrives_in_another_process_as_it_was_sent(kind: type[Event]):
    """Workers send theirs home."""
    event = _make(kind)

    arrived = pickle.loads(pickle.dumps(event))

    assert arrived == event
    assert hash(arrived) == hash(event)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_made_of_plain_values(kind: type[Event]):
    """Texts, numbers and enum members: a log line or JSON holds them all."""
    facts = dataclasses.asdict(_make(kind))

    plain = {k: v.value if isinstance(v, Enum) else v for k, v in facts.items()}

    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_made_by_name_alone(kind: type[Event]):
    """Fields may be added to a later version without changing what a call means."""
    assert all(field.kw_only for field in dataclasses.fields(kind))
    # A dataclass without a docstring gets its signature for one.
    assert not (kind.__doc__ or f"{kind.__name__}(").startswith(f"{kind.__name__}(")


@pytest.mark.parametrize(
    ("script", "outcome", "error_type"),
    [
        ("done", "success", None),
        (KeyError("k"), "failure", "KeyError"),
        (CircuitOpenError("open"), "rejected", "CircuitOpenError"),
        (CallTimeoutError("late"), "timeout", "CallTimeoutError"),
        (TimeoutError("the operation's own"), "failure", "TimeoutError"),
        (asyncio.CancelledError(), "cancelled", "CancelledError"),
    ],
    ids=repr,
)
async def test_the_end_of_a_call_says_how_it_ended(
    script: Any, outcome: str, error_type: str | None
):
    """In one of five words, with the type of the error that its caller got."""
    log = EventLog()
    policy = Policy(observers=[log])

    await asyncio.gather(policy.call(scripted(takes(2, script))), return_exceptions=True)

    ended = log.only(CallEnded)
    assert (ended.outcome, ended.error_type) == (outcome, error_type)
    assert (ended.attempts, ended.duration) == (1, 2)


async def test_the_events_of_a_call_tell_its_whole_story_without_its_arguments():
    """Every kind of them can be met, and none shows what was called with what."""
    log = EventLog()
    policy = (
        Policy("search", observers=[log])
        .with_fallback(lambda failure, *args: "cached")
        .with_retry(2, wait=1, max_server_delay=5, on_retry=scripted(KeyError, then=None))
        .with_breaker(failures=2)
        .with_concurrency(1)
        .with_timeout(5)
        .rotating(["key-secret"], cooldown=0.5)
    )
    operation = scripted(
        takes(9), takes(1, ConnectionError("secret")), CooldownResource(0.5), then=takes(1, "done")
    )

    calls = [policy.using(request_id=f"r{n}").call(operation, "secret") for n in range(3)]
    await asyncio.gather(*calls)

    assert {type(event) for event in log} == set(KINDS) - OF_WORKERS
    assert {event.policy for event in log} == {"search"}
    assert [event.at for event in log] == sorted(event.at for event in log)
    assert "secret" not in repr(log.events)
    assert {event.request_id for event in log} >= {"r0", "r1", "r2"}
