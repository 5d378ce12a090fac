"""arq: policies in the worker's ctx; a job that is refused comes again when it was told to."""

import asyncio
import os
from typing import Any

import httpx
from arq import Retry, create_pool
from arq.connections import RedisSettings

from penstock import Policy, RejectedError

URL = os.environ.get("SEARCH_URL", "https://api.example.com")
REDIS = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://localhost"))


async def startup(ctx: dict[str, Any]) -> None:
    ctx["http"] = httpx.AsyncClient(base_url=URL)
    ctx["policy"] = (
        Policy("search")
        .with_timeout(20)  # below job_timeout: it is the policy that says why
        .with_retry(attempts=3, wait=0.2)  # short pauses are made here, in the job
        .with_breaker(failures=5, recover_after=30)
        .with_concurrency(8)
    )


async def shutdown(ctx: dict[str, Any]) -> None:
    await ctx["http"].aclose()


async def fetch(http: httpx.AsyncClient, query: str) -> str:
    response = await http.get("/search", params={"q": query})
    response.raise_for_status()
    return response.text


async def search(ctx: dict[str, Any], query: str) -> str:
    try:
        return await ctx["policy"].call(fetch, ctx["http"], query)
    except RejectedError as refused:
        # Long pauses are the queue's: meanwhile the worker does something else.
        raise Retry(defer=refused.retry_after or 10) from refused


class WorkerSettings:
    functions = (search,)
    on_startup, on_shutdown = startup, shutdown
    redis_settings = REDIS
    max_tries = 10  # each refusal is one of them


async def main() -> None:
    async with await create_pool(REDIS) as queue:
        job = await queue.enqueue_job("search", "turbines")
        print(await job.result(timeout=60))  # while this runs: arq 25_arq_job.WorkerSettings


if __name__ == "__main__":
    asyncio.run(main())
