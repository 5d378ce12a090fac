from __future__ import annotations

import runpy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import ResultNotFound

from tests.integrations.scripting import Script, scripts
from tests.integrations.servers.arq_worker import RECIPE
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def redis_url(redis_folders: list[str]) -> str:
    """Return where the queue is."""
    # Without a number in the query, arq 0.25 reads the path as one; 0 is that of other tests.
    return f"unix://{redis_folders[1]}/redis.sock?db=1"


@pytest.fixture(scope="module")
def service(redis_url: str) -> Iterator[Script]:
    """Run a real worker, and the service that its jobs call."""
    with scripts() as server:
        script = server({"status": 503}, {"body": "found turbines"})
        with serve("arq_worker", env={"REDIS_URL": redis_url, "SEARCH_URL": script.url}):
            yield script


@pytest.fixture
async def queue(service: Script, redis_url: str) -> AsyncIterator[ArqRedis]:
    """Return the queue of a worker that is running."""
    async with await create_pool(RedisSettings.from_dsn(redis_url)) as queue:
        yield queue


async def _result(queue: ArqRedis, job: str) -> Any:
    running = await queue.enqueue_job(job)
    assert running
    while True:
        try:
            return await running.result(timeout=10, poll_delay=0.02)
        except ResultNotFound:
            # It looks for the result, then for the job: one that ends in between it finds nowhere.
            if await running.result_info() is None:
                raise


@pytest.mark.covers("arq", "retry")
def test_the_recipe_answers_through_a_service_that_fails_at_first(
    service: Script,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """The policy's own retry, within one run of the job."""
    monkeypatch.setenv("REDIS_URL", redis_url)

    runpy.run_path(str(RECIPE), run_name="__main__")

    assert capsys.readouterr().out == "found turbines\n"
    assert [each["target"].partition("/search")[2] for each in service.arrived()] == [
        "?q=turbines",
        "?q=turbines",
    ]


@pytest.mark.covers("arq", "server hint")
@pytest.mark.covers("arq", "own retries")
async def test_a_refused_job_comes_again_when_the_policy_said(queue: ArqRedis):
    """By arq's own retry, which is used once, for the pause that is too long to sit out."""
    tries, seconds = await _result(queue, "comes_again")

    assert tries == 2
    assert 0.3 <= seconds < 5


@pytest.mark.covers("arq", "deadline")
async def test_a_job_that_arq_ends_gives_everything_back(queue: ArqRedis):
    """It is cancelled at its time limit, as any task may be."""
    with pytest.raises(TimeoutError):
        await _result(queue, "too_long")

    timeout, concurrency = (await _result(queue, "held"))["stages"]
    assert (timeout["running"], concurrency["in_flight"]) == (0, 0)
