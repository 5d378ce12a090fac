"""What both type checkers have to report of SDK clients; only type-checked, never run.

An ignore that is not needed is an error: it means that a wrong use is no longer seen.
"""

from __future__ import annotations

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from penstock import Policy, Resource

Chunks = AsyncStream[ChatCompletionChunk]

policy = Policy("chat").with_retry(3)
rotating = policy.rotating(["key-a", "key-b"])
openai = AsyncOpenAI(max_retries=0)


def rekeyed(client: AsyncOpenAI, key: Resource[str]) -> AsyncOpenAI:
    return client.with_options(api_key=key.value)


def by_number(client: AsyncOpenAI, key: Resource[int]) -> AsyncOpenAI:
    return client.with_options(api_key=str(key.value))


def another(client: AsyncOpenAI, key: Resource[str]) -> AsyncAnthropic:
    return AsyncAnthropic(api_key=key.value)


def alone(client: AsyncOpenAI) -> AsyncOpenAI:
    return client


def wrapping_checks_what_it_is_given() -> None:
    policy.wrap_client()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.wrap_client(openai, only=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.wrap_client(openai, only=[5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    policy.wrap_client(openai, just=["chat.*"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.wrap_client(openai, ["chat.*"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def bind_goes_with_client_and_resource() -> None:
    rotating.wrap_client(openai, bind=by_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rotating.wrap_client(openai, bind=another)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rotating.wrap_client(openai, bind=alone)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rotating.wrap_client(openai, bind="api_key")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = rotating.wrap_client(openai, bind=rekeyed)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    other: AsyncAnthropic = rotating.wrap_client(openai)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    del text, other


async def calls_are_checked_as_on_the_client() -> None:
    create = policy.wrap_client(openai).chat.completions.create
    await create(model="m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await policy.wrap_client(openai).chat.completion  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    chunks: Chunks = await create(model="m", messages=[])  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    answer: ChatCompletion = await create(model="m", messages=[], stream=True)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    del chunks, answer
    create(model="m", messages=[])  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
