"""taskiq: policies in the worker's state; a task that is refused comes again when told to."""

import asyncio
import os
from typing import Annotated, Any

import httpx
from taskiq import Context, InMemoryBroker, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq.message import TaskiqMessage
from taskiq.middlewares import SmartRetryMiddleware
from taskiq.result import TaskiqResult

from penstock import Policy, RejectedError


class RetryRefused(SmartRetryMiddleware):
    """Retries after the time that the policy told."""

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        message.labels["delay"] = getattr(exception, "retry_after", None) or 10
        await super().on_error(message, result, exception)


# What a policy has refused, and nothing else: it has retried the rest.
retry = RetryRefused(10, default_retry_label=True, types_of_exceptions=[RejectedError])
# Yours is another one, which knows the label "delay", or has a schedule_source in the middleware.
broker = InMemoryBroker().with_middlewares(retry)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def startup(state: TaskiqState) -> None:
    state.http = httpx.AsyncClient(base_url=os.environ.get("SEARCH_URL", "https://api.example.com"))
    state.policy = Policy("search").with_timeout(20).with_retry(attempts=3, wait=0.2)
    state.policy = state.policy.with_breaker(failures=5, recover_after=30).with_concurrency(8)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def shutdown(state: TaskiqState) -> None:
    await state.http.aclose()


async def fetch(http: httpx.AsyncClient, query: str) -> str:
    return (await http.get("/search", params={"q": query})).raise_for_status().text


@broker.task("search")
async def search(query: str, context: Annotated[Context, TaskiqDepends()]) -> str:
    return await context.state.policy.call(fetch, context.state.http, query)


async def main() -> None:
    await broker.startup()
    print((await (await search.kiq("turbines")).wait_result()).return_value)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
