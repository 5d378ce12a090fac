"""What users of SDK clients write, and the types that have to come out; only type-checked."""

from __future__ import annotations

from typing import assert_type

from anthropic import AsyncAnthropic
from anthropic import AsyncStream as AnthropicStream
from anthropic.types import Message, RawMessageStreamEvent
from google import genai
from google.genai.models import AsyncModels
from openai import AsyncOpenAI, AsyncStream
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from penstock import Policy, Resource, RotatingPolicy
from penstock.rotating import InjectingPolicy

policy = Policy("chat").with_retry(3)
rotating = policy.rotating(["key-a", "key-b"])
openai = AsyncOpenAI(max_retries=0)
anthropic = AsyncAnthropic(max_retries=0)
google = genai.Client()


class Account:
    def __init__(self, key: str, team: str) -> None:
        self.key = key
        self.team = team


class Acme:
    def __init__(self, key: str) -> None:
        self.key = key

    async def ask(self, question: str, *, limit: int = 10) -> list[str]:
        return [question] * limit


def rekeyed(client: AsyncOpenAI, key: Resource[str]) -> AsyncOpenAI:
    return client.with_options(api_key=key.value)


def of_account(client: AsyncOpenAI, account: Resource[Account]) -> AsyncOpenAI:
    return client.with_options(api_key=account.value.key, organization=account.value.team)


def clients_keep_their_type() -> None:
    assert_type(policy.wrap_client(openai), AsyncOpenAI)
    assert_type(policy.wrap_client(anthropic), AsyncAnthropic)
    assert_type(policy.wrap_client(google), genai.Client)
    assert_type(policy.wrap_client(Acme("a")), Acme)
    assert_type(policy.using(cost=2).wrap_client(openai), AsyncOpenAI)
    assert_type(policy.wrap_client(openai).with_options(timeout=5), AsyncOpenAI)
    assert_type(policy.wrap_client(openai, only=("chat.completions.create",)), AsyncOpenAI)
    assert_type(policy.wrap_client(openai, only=["chat.*"]), AsyncOpenAI)


def keys_are_bound() -> None:
    assert_type(rotating, RotatingPolicy[str])
    assert_type(rotating.wrap_client(openai), AsyncOpenAI)
    assert_type(rotating.wrap_client(openai, bind=rekeyed), AsyncOpenAI)
    assert_type(
        rotating.wrap_client(openai, bind=lambda c, key: c.with_options(api_key=key.value)),
        AsyncOpenAI,
    )
    assert_type(rotating.wrap_client(Acme("a"), bind=lambda _, key: Acme(key.value)), Acme)
    accounts = policy.rotating([Account("a", "x"), Account("b", "y")])
    assert_type(accounts.wrap_client(openai, bind=of_account), AsyncOpenAI)
    without = policy.rotating(["a"], inject=None)
    assert_type(without, Policy)
    assert_type(without.wrap_client(openai, bind=rekeyed), AsyncOpenAI)
    assert_type(policy.rotating(["a"], inject="api_key"), InjectingPolicy)


async def overloads_survive(*, streams: bool) -> None:
    client = policy.wrap_client(openai)
    create = client.chat.completions.create
    assert_type(await create(model="m", messages=[]), ChatCompletion)
    assert_type(await create(model="m", messages=[], stream=False), ChatCompletion)
    assert_type(await create(model="m", messages=[], stream=True), AsyncStream[ChatCompletionChunk])
    assert_type(
        await create(model="m", messages=[], stream=streams),
        ChatCompletion | AsyncStream[ChatCompletionChunk],
    )
    assert_type(await client.responses.create(model="m", input="q"), Response)
    async for model in client.models.list():
        assert_type(model, Model)

    messages = rotating.wrap_client(anthropic).messages
    assert_type(await messages.create(model="m", max_tokens=5, messages=[]), Message)
    assert_type(
        await messages.create(model="m", max_tokens=5, messages=[], stream=True),
        AnthropicStream[RawMessageStreamEvent],
    )

    assert_type(rotating.wrap_client(google).aio.models, AsyncModels)

    assert_type(await policy.wrap_client(Acme("a")).ask("q", limit=3), list[str])


async def streams_of_clients() -> None:
    create = openai.chat.completions.create
    chunks = await create(model="m", messages=[], stream=True)
    async with policy.stream(lambda: create(model="m", messages=[], stream=True)) as items:
        async for chunk in items:
            assert_type(chunk, ChatCompletionChunk)
    async for chunk in chunks:
        assert_type(chunk, ChatCompletionChunk)
