"""Which items of known SDKs only say that an answer is coming; found by the item's module.

A model's stream begins before the model does: with an id, a role, an empty block. Nothing here
imports an SDK, and an item of any other kind, or of none that is known, is no preamble.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from penstock.hints import peek

__all__ = ["is_preamble"]

# The ``type`` of such events: OpenAI's Responses API, and Anthropic's Messages API.
OPENAI_EVENTS = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)
ANTHROPIC_EVENTS = frozenset({"message_start", "ping"})

# Anthropic's blocks that begin empty; others (a search's result) come whole with their start.
EMPTY_BLOCKS = frozenset({"text", "thinking"})


def is_preamble(item: object) -> bool:
    """Whether an item says nothing yet; False for what is not known, or cannot be read."""
    for base in type(item).__mro__:
        rule = _rule_of(base)
        if rule is not None:
            try:
                return rule(item)
            except Exception:  # noqa: BLE001 - SDKs build items of any junk, unchecked
                return False
    return False


def _rule_of(cls: type[object]) -> Callable[[object], bool] | None:
    module = peek(cls, "__module__")
    if not isinstance(module, str):
        return None
    top, _, rest = module.partition(".")
    return _RULES.get(f"{top}.{rest.partition('.')[0]}") if top == "google" else _RULES.get(top)


def _of_openai(item: Any) -> bool:  # noqa: ANN401 - an SDK's own
    # ``client.chat.completions.stream()`` wraps the chunks of ``create(stream=True)``.
    chunk: Any = item.chunk if getattr(item, "type", None) == "chunk" else item
    if hasattr(chunk, "choices"):
        return not any(map(_choice_says, chunk.choices))
    return chunk.type in OPENAI_EVENTS or getattr(chunk, "delta", None) == ""


def _choice_says(choice: Any) -> bool:  # noqa: ANN401 - as above
    if choice.finish_reason or getattr(choice, "text", None):
        return True
    # Other services put fields of their own beside ``content``: ``reasoning_content``.
    return any(value for name, value in getattr(choice, "delta", ()) if name != "role")


def _of_anthropic(item: Any) -> bool:  # noqa: ANN401 - as above
    if item.type == "content_block_start":
        return item.content_block.type in EMPTY_BLOCKS
    return item.type in ANTHROPIC_EVENTS


def _of_google(item: Any) -> bool:  # noqa: ANN401 - as above
    return not item.prompt_feedback and not any(map(_candidate_says, item.candidates or ()))


def _candidate_says(candidate: Any) -> bool:  # noqa: ANN401 - as above
    parts: Iterable[Any] = (candidate.content and candidate.content.parts) or ()
    return bool(candidate.finish_reason) or any(value for part in parts for _, value in part)


_RULES: dict[str, Callable[[object], bool]] = {
    "openai": _of_openai,
    "anthropic": _of_anthropic,
    "google.genai": _of_google,
}
