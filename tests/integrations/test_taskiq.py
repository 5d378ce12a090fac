from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from taskiq import BrokerMessage, InMemoryBroker, TaskiqResult

from penstock import Policy, RejectedError
from penstock.testing import scripted, takes
from tests.integrations.scripting import scripts

RECIPE = Path(__file__).parents[2] / "recipes" / "26_taskiq_task.py"


class DelayingBroker(InMemoryBroker):
    """A broker that knows the label ``delay``, as RabbitMQ's does."""

    def __init__(self) -> None:
        super().__init__()
        self._later: set[asyncio.Task[None]] = set()
        self.delays: list[float] = []

    async def kick(self, message: BrokerMessage) -> None:
        """Run the task after its delay."""
        self.delays.append(float(message.labels.get("delay", 0)))
        task = asyncio.create_task(self._after(self.delays[-1], message))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _after(self, seconds: float, message: BrokerMessage) -> None:
        await asyncio.sleep(seconds)
        await super().kick(message)


@pytest.fixture
async def broker() -> AsyncIterator[DelayingBroker]:
    """Return a broker with the recipe's middleware."""
    retry = runpy.run_path(str(RECIPE))["retry"]
    broker = DelayingBroker()
    broker.with_middlewares(retry)
    await broker.startup()
    yield broker
    await broker.shutdown()


async def _run(
    broker: InMemoryBroker, policy: Policy, operation: Any, **labels: Any
) -> TaskiqResult[Any]:
    @broker.task("work", **labels)
    async def work() -> Any:
        return await policy.call(operation)

    return await (await work.kiq()).wait_result(timeout=200)


@pytest.mark.integration
@pytest.mark.covers("taskiq", "retry")
def test_the_recipe_answers_through_a_service_that_fails_at_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The policy's own retry, within one run of the task."""
    with scripts() as service:
        script = service({"status": 503}, {"body": "found turbines"})
        monkeypatch.setenv("SEARCH_URL", script.url)

        runpy.run_path(str(RECIPE), run_name="__main__")

        arrived = [each["target"].partition("/search")[2] for each in script.arrived()]

    assert capsys.readouterr().out == "found turbines\n"
    assert arrived == ["?q=turbines"] * 2


@pytest.mark.covers("taskiq", "server hint")
async def test_a_refused_task_comes_again_when_the_policy_said(broker: DelayingBroker):
    """By the label that the broker, or a schedule source, goes by."""
    policy = Policy().with_breaker(failures=1, recover_after=12)
    operation = scripted(ConnectionError, "found")
    with pytest.raises(ConnectionError):
        await policy.call(operation)

    result = await _run(broker, policy, operation)

    assert result.return_value == "found"
    assert broker.delays == [0, 12]


@pytest.mark.covers("taskiq", "own retries")
async def test_what_the_policy_gave_up_is_not_tried_again(broker: DelayingBroker):
    """Its attempts are not multiplied by those of the middleware."""
    operation = scripted(then=ConnectionError("gone"))

    result = await _run(broker, Policy().with_retry(3, wait=0), operation)

    assert isinstance(result.error, ConnectionError)
    assert (len(operation.calls), broker.delays) == (3, [0])


@pytest.mark.covers("taskiq", "own retries")
async def test_a_task_that_is_refused_again_and_again_ends(broker: DelayingBroker):
    """With the refusal as its error, after as many tries as the middleware has."""
    operation = scripted(then=RejectedError("there is no room"))

    result = await _run(broker, Policy(), operation)

    assert isinstance(result.error, RejectedError)
    assert broker.delays == [0, *[10] * 9]


@pytest.mark.covers("taskiq", "deadline")
async def test_a_task_that_taskiq_ends_gives_everything_back(broker: DelayingBroker):
    """By its label ``timeout``, the call is cancelled, and its places are free."""
    policy = Policy().with_timeout(60).with_concurrency(1)

    result = await _run(broker, policy, scripted(takes(20)), timeout=0.2)

    timeout, concurrency = policy.snapshot()["stages"]
    assert isinstance(result.error, TimeoutError)
    assert (timeout["running"], concurrency["in_flight"]) == (0, 0)
