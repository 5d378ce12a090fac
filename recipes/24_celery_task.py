"""Celery: one policy for all tasks of a worker process; a refused task comes again when told to."""

import functools
import os

import httpx
from celery import Celery, Task

from penstock import Policy, RejectedError

URL = os.environ.get("SEARCH_URL", "https://api.example.com")
BROKER = os.environ.get("BROKER_URL", "redis://localhost")
RESULTS = os.environ.get("RESULT_URL", "redis://localhost")

app = Celery("service", broker=BROKER, backend=RESULTS)

# Made before the fork, used after it: each process has its own state and its own background loop.
policy = (
    Policy("search")
    .with_timeout(20)  # below the task's soft limit, so that it is the policy that says why
    .with_retry(attempts=3, wait=0.2)  # short pauses are made here, in the task
    .with_breaker(failures=5, recover_after=30)
    .with_concurrency(8)
)


@functools.cache
def http() -> httpx.AsyncClient:
    # By the first call: in the process, and in the loop, that will use its connections.
    return httpx.AsyncClient(base_url=URL)


async def fetch(query: str) -> str:
    response = await http().get("/search", params={"q": query})
    response.raise_for_status()
    return response.text


@app.task(name="search", bind=True, max_retries=10, soft_time_limit=30)
def search(self: Task, query: str) -> str:
    try:
        return policy.run_sync(fetch, query)
    except RejectedError as refused:
        # Long pauses are the broker's: meanwhile the process does something else.
        raise self.retry(exc=refused, countdown=refused.retry_after or 10) from refused


if __name__ == "__main__":
    # While a worker runs: celery -A 24_celery_task worker
    print(search.delay("turbines").get(timeout=60))
