"""Print a model's answer word by word: opened again until the first word, held until the last.

Run it against any server that speaks as OpenAI does: python recipes/19_streaming_chat.py <base_url>
"""

import asyncio
import sys

from openai import AsyncOpenAI, OpenAIError

from penstock import Policy
from penstock.stages.retry import Exponential

policy = (
    Policy("chat")
    .with_timeout(120)  # to the last word
    .with_retry(attempts=4, wait=Exponential(initial=0.05))  # to the first word
    .with_concurrency(20)  # a permit is held for as long as the answer is read
)


async def main(base_url: str) -> None:
    # The policy stands round the whole stream; a wrapped client's would stand round its opening.
    async with AsyncOpenAI(api_key="sk-ann", base_url=base_url, max_retries=0) as client:
        for question in ("what does water do?", "and wind?", "and ice?"):
            messages = [{"role": "user", "content": question}]
            create = client.chat.completions.create
            try:
                async with policy.stream(
                    create, model="gpt-5.4-mini", messages=messages, stream=True
                ) as chunks:
                    async for chunk in chunks:
                        word = chunk.choices[0].delta.content or ""
                        print(word, end="", flush=True)
                        if "drives" in word and question == "and wind?":
                            break  # enough: the connection and the permit go back now
                print()
            except OpenAIError as error:
                # After its first word a stream is not begun again: you have seen half of it.
                print(f"... ({type(error).__name__})")
    print(policy.snapshot()["stages"][2]["in_flight"], "permits held")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
