"""Ask a model over five keys, each with a budget of tokens of its own: give it a base URL."""

import asyncio
import sys
from collections import Counter
from typing import NamedTuple

from openai import AsyncOpenAI

from penstock import Policy, Resource, current_call

KEYS = {name: f"sk-{name}" for name in ("ann", "ben", "cid", "dan", "eve")}


class Account(NamedTuple):
    key: str
    budget: Policy


def account(name: str, key: str) -> Resource[Account]:
    # What a call may cost is paid before it starts. Where that cannot be paid this refuses at once;
    # the pool takes it for a rate limit, lets the key rest and goes on to another.
    budget = Policy(f"tokens of {name}").with_rate("40/min", cost=12, max_wait=0)
    return Resource(Account(key, budget), id=name)


policy = (
    Policy("chat")
    .with_timeout(60)  # waiting for a key included
    .with_retry(attempts=8, wait=0.2)  # goes on to another key at once where one is ready
    # 401 and unpaid bills take a key out, a 429 rests it for as long as the server says.
    .rotating([account(name, key) for name, key in KEYS.items()], pick="least_total")
)


async def complete(client: AsyncOpenAI, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    answer = await client.chat.completions.create(model="gpt-5.4-mini", messages=messages)
    current_call().settle(answer.usage.total_tokens)  # what was not used comes back
    return answer.choices[0].message.content


async def main(base_url: str) -> None:
    used: Counter[str] = Counter()
    # One client, and so one pool of connections, for all keys. It leaves retries to the policy.
    async with AsyncOpenAI(api_key="of nobody", base_url=base_url, max_retries=0) as client:

        async def ask(account: Resource[Account], question: str) -> str:
            own = client.with_options(api_key=account.value.key)
            answer = await account.value.budget.call(complete, own, question)
            used[account.id] += 1
            return answer

        questions = [f"question {n}" for n in range(9)]
        print(len(await policy.gather(ask, questions, concurrency=3)), "answers", policy.health())
        print({name: used[name] for name in KEYS})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
