"""Put a policy round a whole SDK in one line; nothing else of the program changes.

Run it against any server that speaks as OpenAI does: python recipes/18_wrap_a_client.py <base_url>
"""

import asyncio
import sys

from openai import AsyncOpenAI, OpenAIError

from penstock import Policy
from penstock.stages.retry import Exponential

policy = (
    Policy("chat")
    .with_timeout(60)
    .with_retry(attempts=4, wait=Exponential(initial=0.05))  # or the server's Retry-After
    .with_breaker(failures=10, recover_after=30)
    .with_concurrency(20)
    .with_timeout(20)
    .rotating({"ann": "sk-ann", "ben": "sk-ben"})  # leave it out where there is one key
)


async def main(base_url: str) -> None:
    # The client leaves retries to the policy; with its own there would be a warning.
    client = AsyncOpenAI(api_key="of nobody", base_url=base_url, max_retries=0)

    # This is the line. Each attempt is made with the key of its turn.
    client = policy.wrap_client(client)

    # It is an AsyncOpenAI still, for type checkers and for you.
    async with client:
        question = {"role": "user", "content": "what does water do?"}
        answer = await client.chat.completions.create(model="gpt-5.4-mini", messages=[question])
        print(answer.choices[0].message.content)

        # Parts, copies and pages are under the policy too.
        patient = client.with_options(timeout=120)
        print((await patient.responses.create(model="gpt-5.4-mini", input="hello")).output_text)
        print([model.id async for model in client.models.list()])

        # What no attempt could mend is the SDK's own error.
        try:
            await client.chat.completions.create(model="gpt-5.4-mini", messages=[])
        except OpenAIError as error:
            print(f"{type(error).__name__}: {error.message}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
