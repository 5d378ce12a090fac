"""``policy.stream`` knows the items of SDK streams, however they are opened; checked, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_type

from anthropic import AsyncAnthropic
from anthropic.types import RawMessageStreamEvent
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from penstock import Policy
from penstock.streaming import PolicyStream

policy = Policy()


@asynccontextmanager
async def within() -> AsyncGenerator[AsyncIterator[bytes]]:
    async def read() -> AsyncIterator[bytes]:
        yield b""

    yield read()


async def streams_are_read_out_of_context_managers() -> None:
    assert_type(policy.stream(within), PolicyStream[bytes])


async def how_a_stream_is_read_depends_on_its_items() -> None:
    async with policy.stream(within).reading(first=bytes.isspace, idle=3) as items:
        assert_type(items, PolicyStream[bytes])


async def sdks_streams_keep_their_items(openai: AsyncOpenAI, anthropic: AsyncAnthropic) -> None:
    chunks = policy.stream(
        lambda: openai.chat.completions.create(model="m", messages=[], stream=True)
    )
    assert_type(chunks, PolicyStream[ChatCompletionChunk])
    events = policy.stream(
        lambda: anthropic.messages.create(model="m", messages=[], max_tokens=1, stream=True)
    )
    assert_type(events, PolicyStream[RawMessageStreamEvent])
    async with policy.stream(
        lambda: anthropic.messages.stream(model="m", messages=[], max_tokens=1)
    ) as helped:
        async for event in helped:
            if event.type == "text":
                assert_type(event.text, str)
    async with policy.stream(
        openai.chat.completions.create, model="m", messages=[], stream=True
    ) as direct:
        async for chunk in direct:
            assert_type(chunk, ChatCompletionChunk)
