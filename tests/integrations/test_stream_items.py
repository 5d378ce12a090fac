"""What the items of SDKs say: whether an answer has begun, or is only announced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock import Policy
from penstock.streaming.preamble import is_preamble

pytestmark = pytest.mark.virtual_time


def _chunk(*choices: dict[str, Any], **fields: Any) -> Any:
    chat = pytest.importorskip("openai.types.chat")
    told = [{"index": 0, "finish_reason": None, **choice} for choice in choices]
    return chat.ChatCompletionChunk.construct(id="c", model="m", choices=told, **fields)


@pytest.mark.parametrize(
    ("choices", "announces"),
    [
        ([], True),
        ([{"delta": {"role": "assistant"}}], True),
        ([{"delta": {"role": "assistant", "content": ""}}], True),
        ([{"delta": {"role": "assistant", "content": None, "refusal": None}}], True),
        ([{"delta": {"reasoning_content": None}}], True),
        ([{"delta": {"content": "Hi"}}], False),
        ([{"delta": {"role": "assistant", "content": "Hi"}}], False),
        ([{"delta": {"reasoning_content": "Well"}}], False),
        ([{"delta": {"refusal": "No"}}], False),
        ([{"delta": {"tool_calls": [{"index": 0}]}}], False),
        ([{"delta": {}}, {"delta": {"content": "Hi"}}], False),
        ([{"delta": {}, "finish_reason": "length"}], False),
    ],
)
def test_a_chunk_of_openai_without_content_announces_an_answer(
    choices: list[dict[str, Any]], announces: bool
):
    """Its role, or a report on its prompt; a reason to finish is an answer."""
    assert is_preamble(_chunk(*choices)) is announces


@pytest.mark.parametrize("junk", [None, 5, [5], [{"delta": 5}]])
def test_a_chunk_that_cannot_be_read_is_handed_on(junk: Any):
    """SDKs build their items of whatever they get."""
    chunk = _chunk()
    chunk.choices = junk

    assert not is_preamble(chunk)


@pytest.mark.parametrize(("content", "announces"), [("", True), ("Hi", False)])
def test_a_chunk_that_openais_helper_wraps_is_judged_as_the_chunk(content: str, announces: bool):
    """``client.chat.completions.stream()`` yields its own events in between."""
    events = pytest.importorskip("openai.lib.streaming.chat")
    wrapped = events.ChunkEvent.construct(
        type="chunk", chunk=_chunk({"delta": {"content": content}})
    )
    delta = events.ContentDeltaEvent(type="content.delta", delta=content, snapshot="")

    assert is_preamble(wrapped) is announces
    assert is_preamble(delta) is announces


@pytest.mark.parametrize(("text", "announces"), [("", True), ("Hi", False)])
def test_a_completion_of_openai_begins_with_its_text(text: str, announces: bool):
    """The older of its two services."""
    types = pytest.importorskip("openai.types")
    choice = {"index": 0, "text": text, "finish_reason": None}

    assert is_preamble(types.Completion.construct(id="c", choices=[choice])) is announces


@pytest.mark.parametrize(
    ("name", "kind", "announces"),
    [
        ("ResponseCreatedEvent", "response.created", True),
        ("ResponseInProgressEvent", "response.in_progress", True),
        ("ResponseOutputItemAddedEvent", "response.output_item.added", True),
        ("ResponseContentPartAddedEvent", "response.content_part.added", True),
        ("ResponseTextDeltaEvent", "response.output_text.delta", False),
        ("ResponseReasoningTextDeltaEvent", "response.reasoning_text.delta", False),
        ("ResponseFailedEvent", "response.failed", False),
        ("ResponseErrorEvent", "error", False),
    ],
)
def test_an_event_of_openais_responses_is_judged_by_its_type(name: str, kind: str, announces: bool):
    """A failure that comes as an event is an item like any other."""
    responses = pytest.importorskip("openai.types.responses")

    assert is_preamble(getattr(responses, name).construct(type=kind)) is announces


@pytest.mark.parametrize(
    ("name", "fields", "announces"),
    [
        ("RawMessageStartEvent", {"type": "message_start"}, True),
        ("RawContentBlockStartEvent", {"content_block": {"type": "text", "text": ""}}, True),
        ("RawContentBlockStartEvent", {"content_block": {"type": "thinking"}}, True),
        ("RawContentBlockStartEvent", {"content_block": {"type": "tool_use", "name": "f"}}, False),
        ("RawContentBlockDeltaEvent", {"type": "content_block_delta"}, False),
        ("RawMessageDeltaEvent", {"type": "message_delta"}, False),
        ("RawMessageStopEvent", {"type": "message_stop"}, False),
    ],
)
def test_an_event_of_anthropic_is_judged_by_its_type(
    name: str, fields: dict[str, Any], announces: bool
):
    """A message's start, and that of a block which begins empty."""
    types = pytest.importorskip("anthropic.types")

    event = getattr(types, name).construct(**{"type": "content_block_start", **fields})

    assert is_preamble(event) is announces


def test_the_events_that_anthropics_helper_adds_are_an_answer():
    """``client.messages.stream()`` yields them beside the raw ones."""
    streaming = pytest.importorskip("anthropic.lib.streaming")

    assert not is_preamble(streaming.TextEvent(type="text", text="Hi", snapshot="Hi"))


@pytest.mark.parametrize(
    ("answer", "announces"),
    [
        ({}, True),
        ({"candidates": [], "model_version": "m"}, True),
        ({"candidates": [{"content": {"role": "model"}}]}, True),
        ({"candidates": [{"content": {"parts": [{"text": ""}]}}]}, True),
        ({"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}, False),
        ({"candidates": [{"content": {"parts": [{"function_call": {"name": "f"}}]}}]}, False),
        ({"candidates": [{"finish_reason": "MAX_TOKENS"}]}, False),
        ({"prompt_feedback": {"block_reason": "SAFETY"}}, False),
    ],
)
def test_a_chunk_of_google_genai_begins_with_a_part_of_its_content(
    answer: dict[str, Any], announces: bool
):
    """A prompt that is refused is an answer too."""
    types = pytest.importorskip("google.genai.types")

    assert is_preamble(types.GenerateContentResponse(**answer)) is announces


def test_a_class_that_derives_from_an_sdks_is_judged_as_that():
    """Wherever it is defined."""
    chat = pytest.importorskip("openai.types.chat")

    class Own(chat.ChatCompletionChunk):  # type: ignore[misc, name-defined]
        pass

    assert is_preamble(Own.construct(choices=[]))


class _Hidden:
    __module__ = 5  # type: ignore[assignment]


class _Openly:
    __module__ = "openaistub"
    type = "response.created"


@pytest.mark.parametrize("item", ["", b"", None, {}, {"type": "ping"}, object(), _Openly()])
def test_an_item_of_any_other_kind_is_one_that_matters(item: object):
    """Also where it looks alike."""
    assert not is_preamble(item)


def test_a_class_whose_module_is_no_text_is_of_no_sdk():
    """Anybody can set it."""
    assert not is_preamble(_Hidden())


def _plays(*plays: list[Any]) -> Any:
    waiting = iter(plays)

    async def source() -> AsyncIterator[Any]:
        for item in next(waiting):
            if isinstance(item, Exception):
                raise item
            yield item

    return source


ROLE: dict[str, Any] = {"delta": {"role": "assistant", "content": ""}}
WORD: dict[str, Any] = {"delta": {"content": "Hi"}}


async def _read(stream: Any) -> int:
    async with stream as items:
        return len([item async for item in items])


@pytest.mark.parametrize("failure", [[ConnectionError("off")], []])
async def test_an_answer_that_was_only_announced_is_asked_for_again(failure: list[Exception]):
    """Broken off, or ended as if that were all."""
    source = _plays([_chunk(ROLE), *failure], [_chunk(ROLE), _chunk(WORD)])

    assert await _read(Policy().with_retry(2, wait=0).stream(source)) == 2


async def test_an_end_before_the_answer_reaches_the_reader_where_nobody_asks_again():
    """Nothing was read: an empty answer would be a lie."""
    with pytest.raises(EOFError, match="ended before the answer that it announced"):
        await _read(Policy().stream(_plays([_chunk(ROLE)])))


async def test_first_stands_in_place_of_what_is_known():
    """Whoever wants every item as it comes says so."""
    source = _plays([_chunk(ROLE), ConnectionError("off")], [_chunk(WORD)])
    stream = Policy().with_retry(2, wait=0).stream(source).reading(first=lambda _: True)

    with pytest.raises(ConnectionError):
        await _read(stream)
