"""Answer from a second model when the first one cannot, and from the cache when neither can."""

import asyncio

from penstock import Event, Policy
from penstock.events import FallbackUsed
from penstock.testing import run


class OverloadedError(Exception):
    status_code = 529  # as the errors of SDKs have it


async def large(question: str) -> str:
    await asyncio.sleep(1)
    raise OverloadedError


async def small(question: str) -> str:
    await asyncio.sleep(0.3)
    if "France" in question:
        raise OverloadedError
    return f"a short answer to {question!r}"


second = Policy("small model").with_retry(attempts=2, wait=1).with_timeout(2)


async def ask_second(failure: Exception, question: str) -> str:
    return await second.call(small, question)


def from_cache(failure: Exception, question: str) -> str:
    if question == "capital of France":
        return "Paris (from yesterday)"
    raise failure  # no answer is better than a wrong one


def tell(event: Event) -> None:
    if isinstance(event, FallbackUsed):
        print("fallback after", event.error_type)


answer = (
    Policy("answer", observers=[tell])
    .with_timeout(30)
    .with_fallback(from_cache)  # outermost: the last resort
    .with_fallback(ask_second, fallback_on=["overloaded", "rate_limited", "timeout"])
    .with_retry(attempts=3, wait=1)  # inside: the large model has had its attempts by then
    .with_timeout(5)
)


async def main() -> None:
    for question in ("why is the sky blue?", "capital of France"):
        print(await answer.call(large, question))


if __name__ == "__main__":
    run(main())  # in virtual time
