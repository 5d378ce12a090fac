"""SDKs over the transports: one transport serves httpx and httpx2, and what is built on either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock import CircuitOpenError, Policy
from tests.integrations.httpx_kits import KITS, Kit
from tests.integrations.scripting import Scripts, scripts

pytestmark = pytest.mark.integration

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

HTTPX, HTTPX2 = KITS

COMPLETION = """{"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}]}"""

MESSAGE = """{"id": "m", "type": "message", "role": "assistant", "model": "m",
    "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1}}"""

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def script() -> Iterator[Scripts]:
    """Register the steps that the server takes."""
    with scripts() as running:
        yield running


def answer(body: str) -> dict[str, Any]:
    """Return the step of a good answer."""
    return {"body": body, "headers": {"Content-Type": "application/json"}}


@pytest.mark.finding(1)
@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
async def test_openai_takes_a_client_of_either(kit: Kit, script: Scripts):
    """Calls are tried again with another key, which the SDK knows nothing of."""
    steps = script({"status": 429}, {"status": 503}, answer(COMPLETION))
    policy = Policy().with_retry(3, wait=0).rotating(["sk-a", "sk-b"], pick="round_robin")
    http = kit.client(
        policy,
        header="Authorization",
        form="Bearer {}",
        origins=[script.origin()],
        classify="openai",
    )

    async with http:
        client = openai.AsyncOpenAI(
            api_key="none", base_url=steps.url, max_retries=0, http_client=http
        )
        told = await client.chat.completions.create(**ASKED)

    assert told.choices[0].message.content == "hello"
    used = [request["headers"]["authorization"] for request in steps.arrived()]
    assert set(used) == {"Bearer sk-a", "Bearer sk-b"}


@pytest.mark.finding(1)
async def test_anthropic_takes_a_client_of_httpx2_alone(script: Scripts):
    """It refuses the other one when it is made, so nobody meets that in production."""
    steps = script({"status": 529}, answer(MESSAGE))
    policy = Policy().with_retry(3, wait=0)

    async with HTTPX2.client(policy) as http, HTTPX.client(policy) as other:
        client = anthropic.AsyncAnthropic(
            api_key="none", base_url=steps.url, max_retries=0, http_client=http
        )
        told = await client.messages.create(**ASKED, max_tokens=5)
        with pytest.raises(TypeError):
            anthropic.AsyncAnthropic(api_key="none", http_client=other)

    assert told.content[0].text == "hello"
    assert len(steps.arrived()) == 2


async def test_errors_of_ours_pass_openai_as_they_are_and_are_the_cause_of_anthropics():
    """Whoever catches them looks in one of two places."""
    policy = Policy().with_breaker(failures=1)
    policy.stages[0].isolate()  # type: ignore[attr-defined]

    async with HTTPX2.client(policy) as http:
        one = openai.AsyncOpenAI(api_key="none", max_retries=0, http_client=http)
        other = anthropic.AsyncAnthropic(api_key="none", max_retries=0, http_client=http)
        with pytest.raises(CircuitOpenError):
            await one.chat.completions.create(**ASKED)
        with pytest.raises(anthropic.APIConnectionError) as raised:
            await other.messages.create(**ASKED, max_tokens=5)

    assert isinstance(raised.value.__cause__, CircuitOpenError)
