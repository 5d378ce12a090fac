"""Keep policies in a file: operators read and change it, the code only names them."""

import asyncio
from pathlib import Path

from penstock import ConfigError, Policy
from penstock.testing import run

FILE = Path(__file__).with_suffix(".yaml")

search = Policy.from_yaml(FILE, name="search")
report = Policy.from_yaml(FILE, name="report")


@search
async def find(query: str) -> str:
    await asyncio.sleep(0.1)
    return f"found {query}"


async def main() -> None:
    print(search)
    print(await find("turbines"))
    print(await report.call(asyncio.sleep, 1, "report written"))

    # A mistake is found when the file is read, with its line and what was probably meant.
    mistaken = {"version": 1, "policies": {"search": {"pipeline": [{"retri": 3}]}}}
    try:
        Policy.from_dict(mistaken)
    except ConfigError as error:
        print(error)


if __name__ == "__main__":
    run(main())  # in virtual time
