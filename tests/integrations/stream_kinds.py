"""The streams of the SDKs as the tests of streams see them: how they are opened, and the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest

from penstock import Resource

Open = Callable[[Resource[str]], Any]

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """One SDK's streams.

    Attributes:
        preamble: What the service sends before the first word.
        word: One word of an answer, as it is sent.
        end: What follows the last word.
        error: The event with which the service gives up in the middle; None where there is none.
        opening: Takes a URL and returns what opens a stream there with a resource's key.
        text: The words of an item; empty for preamble.
        broken: Name of the exception for a connection that is closed in the middle.
        reset: That for one that is reset.
        failed: That for ``error``, and its verdict.
        first: For ``reading``; None where the items are known.
        hangs_up: False where closing the stream leaves its connection to the collector.
    """

    preamble: list[str]
    word: Callable[[str], str]
    end: list[str]
    error: str | None
    opening: Callable[[str, AsyncExitStack], Open]
    text: Callable[[Any], str]
    broken: str
    reset: str
    failed: tuple[str, str] = ("", "")
    first: Callable[[Any], bool] | None = None
    hangs_up: bool = True

    def answer(self, *words: str) -> list[str]:
        """Return an answer as it is sent, from its beginning to its end."""
        return [*self.preamble, *map(self.word, words), *self.end]


# --- OpenAI -------------------------------------------------------------------------------------


def _chunk(delta: dict[str, str], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**told, 'choices': [choice]})}\n\n"


def _open_openai(url: str, stack: AsyncExitStack) -> Open:
    openai = pytest.importorskip("openai")
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    stack.push_async_callback(client.close)

    def opened(key: Resource[str]) -> Any:
        keyed = client.with_options(api_key=key.value)
        return keyed.chat.completions.create(model="m", messages=[], stream=True)

    return opened


def _text_of_openai(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


# --- Anthropic ----------------------------------------------------------------------------------


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


_MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}
_USAGE = {"input_tokens": 1, "output_tokens": 1}


def _open_anthropic(url: str, stack: AsyncExitStack) -> Open:
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0)
    stack.push_async_callback(client.close)

    def opened(key: Resource[str]) -> Any:
        keyed = client.with_options(api_key=key.value)
        return keyed.messages.create(model="m", messages=[], max_tokens=9, stream=True)

    return opened


def _text_of_anthropic(event: Any) -> str:
    return event.delta.text if event.type == "content_block_delta" else ""


# --- Google -------------------------------------------------------------------------------------


def _answer(*parts: str, finish: str | None = None) -> str:
    content = {"role": "model", "parts": [{"text": part} for part in parts]}
    candidates = [{"content": content, "finishReason": finish}] if parts or finish else []
    return f"data: {json.dumps({'candidates': candidates, 'modelVersion': 'm'})}\r\n\r\n"


def _open_google(url: str, stack: AsyncExitStack) -> Open:
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key="none", http_options={"base_url": url}).aio
    stack.push_async_callback(client.aclose)

    def opened(key: Resource[str]) -> Any:
        options = {"http_options": {"headers": {"x-goog-api-key": key.value}}}
        return client.models.generate_content_stream(model="m", contents="c", config=options)

    return opened


# --- lines --------------------------------------------------------------------------------------


def _open_httpx(url: str, stack: AsyncExitStack) -> Open:
    httpx = pytest.importorskip("httpx")
    client = httpx.AsyncClient()
    stack.push_async_callback(client.aclose)

    async def lines(key: Resource[str]) -> AsyncIterator[str]:
        headers = {"authorization": f"Bearer {key.value}"}
        async with client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                yield line

    return lines


def _open_aiohttp(url: str, stack: AsyncExitStack) -> Open:
    aiohttp = pytest.importorskip("aiohttp")
    session = aiohttp.ClientSession(raise_for_status=True)
    stack.push_async_callback(session.close)

    async def lines(key: Resource[str]) -> AsyncIterator[str]:
        async with session.get(url, headers={"authorization": f"Bearer {key.value}"}) as response:
            async for line in response.content:
                yield line.decode().rstrip()

    return lines


def _is_data(line: str) -> bool:
    return line.startswith("data: ")


_LINES: dict[str, Any] = {
    "preamble": [": hello\n", "\n"],
    "word": "data: {}\n".format,
    "end": [],
    "error": None,
    "text": lambda line: line.removeprefix("data: ") if _is_data(line) else "",
    "first": _is_data,
}

KINDS = {
    "openai": Kind(
        preamble=[_chunk({"role": "assistant", "content": ""})],
        word=lambda word: _chunk({"content": word}),
        end=[_chunk({}, "stop"), "data: [DONE]\n\n"],
        error='data: {"error": {"message": "try later", "type": "server_error"}}\n\n',
        opening=lambda url, stack: _open_openai(f"{url}/v1", stack),
        text=_text_of_openai,
        broken="APIConnectionError",
        reset="APIConnectionError",
        failed=("APIError", "transient"),
    ),
    "anthropic": Kind(
        preamble=[
            _event("message_start", message={**_MESSAGE, "usage": _USAGE}),
            _event("ping"),
            _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        ],
        word=lambda word: _event(
            "content_block_delta", index=0, delta={"type": "text_delta", "text": word}
        ),
        end=[
            _event("content_block_stop", index=0),
            _event("message_delta", delta={"stop_reason": "end_turn"}, usage=_USAGE),
            _event("message_stop"),
        ],
        error=_event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        opening=_open_anthropic,
        text=_text_of_anthropic,
        broken="RemoteProtocolError",
        reset="ReadError",
        failed=("APIStatusError", "overloaded"),
    ),
    "google_genai": Kind(
        preamble=[_answer()],
        word=_answer,
        end=[_answer(finish="STOP")],
        error='data: {"error": {"code": 503, "status": "UNAVAILABLE"}}\r\n\r\n',
        opening=_open_google,
        text=lambda answer: answer.text or "",
        broken="ClientPayloadError",
        reset="ClientPayloadError",
        failed=("ServerError", "overloaded"),
        hangs_up=False,
    ),
    "httpx": Kind(**_LINES, opening=_open_httpx, broken="RemoteProtocolError", reset="ReadError"),
    "aiohttp": Kind(
        **_LINES, opening=_open_aiohttp, broken="ClientPayloadError", reset="ClientPayloadError"
    ),
}
