"""What the services of OpenAI, Anthropic and Google answer: bodies and events, good and bad."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]

WORDS = ("water ", "drives ", "the ", "turbine")
TEXT = "".join(WORDS)

_USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


def dialect_of(path: str) -> str:
    """Name the service that has a path."""
    for part, name in (
        ("/chat/completions", "chat"),
        ("/responses", "responses"),
        ("/messages", "messages"),
        ("enerateContent", "gemini"),
    ):
        if part in path:
            return name
    return "list"


def good(dialect: str, by: str) -> Json:
    """Return the body of an answer; ``by`` is the key, which its id shows."""
    match dialect:
        case "chat":
            message = {"role": "assistant", "content": TEXT}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return {**_chat("chat.completion", by), "choices": [choice], "usage": _USAGE}
        case "responses":
            return _response(by, "completed", [_message(TEXT)])
        case "messages":
            return {**_anthropic(by), "content": [{"type": "text", "text": TEXT}]}
        case "gemini":
            return _gemini(TEXT, by)
        case _:
            return {
                "object": "list",
                "has_more": False,
                "data": [
                    {"id": f"model-{n}", "object": "model", "created": 1, "owned_by": by}
                    for n in range(2)
                ],
            }


def events(dialect: str, by: str) -> list[bytes]:
    """Return the events of a streamed answer; those with a word in them come one per word."""
    match dialect:
        case "chat":
            chunks = [
                {
                    **_chat("chat.completion.chunk", by),
                    "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
                }
                for word in WORDS
            ]
            return [*(_event(None, chunk) for chunk in chunks), b"data: [DONE]\n\n"]
        case "responses":
            return _response_events(by)
        case "messages":
            return _anthropic_events(by)
        case _:
            return [_event(None, _gemini(word, by)) for word in WORDS]


def bad(dialect: str, status: int, error: Json) -> Json:
    """Return the body of an error as the service writes it.

    Args:
        dialect: Whose.
        status: The HTTP status, which Google repeats.
        error: ``type``, ``code`` and ``message``, as far as they matter.
    """
    message = error.get("message", f"scripted {status}")
    match dialect:
        case "messages":
            inner = {"type": error.get("type", "api_error"), "message": message}
            return {"type": "error", "error": inner, "request_id": "req_1"}
        case "gemini":
            inner = {"code": status, "message": message, "status": error.get("type", "UNKNOWN")}
            return {"error": {**inner, "details": error.get("details", [])}}
        case _:
            return {
                "error": {"message": message, "type": None, "code": None, "param": None} | error
            }


def error_event(dialect: str, error: Json) -> bytes:
    """Return the event that ends a stream which began with a 200."""
    named = "error" if dialect == "messages" else None
    return _event(named, bad(dialect, 200, error))


def _event(name: str | None, data: Json) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _chat(kind: str, by: str) -> Json:
    return {"id": f"chatcmpl-{by}", "object": kind, "created": 1, "model": "gpt-test"}


def _message(text: str) -> Json:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _response(by: str, status: str, output: list[Json]) -> Json:
    return {
        "id": f"resp-{by}",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "gpt-test",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _response_events(by: str) -> list[bytes]:
    created = {"type": "response.created", "response": _response(by, "in_progress", [])}
    done = {"type": "response.completed", "response": _response(by, "completed", [_message(TEXT)])}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    deltas = [{"type": "response.output_text.delta", **place, "delta": word} for word in WORDS]
    told = enumerate([created, *deltas, done])
    return [_event(data["type"], {**data, "sequence_number": n}) for n, data in told]


def _anthropic(by: str) -> Json:
    return {
        "id": f"msg-{by}",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 4},
    }


def _anthropic_events(by: str) -> list[bytes]:
    told: list[Json] = [
        {"type": "message_start", "message": {**_anthropic(by), "stop_reason": None}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
            for word in WORDS
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 4},
        },
        {"type": "message_stop"},
    ]
    return [_event(data["type"], data) for data in told]


def _gemini(text: str, by: str) -> Json:
    content = {"role": "model", "parts": [{"text": text}]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 4, "totalTokenCount": 11},
        "modelVersion": "gemini-test",
        "responseId": f"gem-{by}",
    }
