"""What both type checkers have to report of pools; only type-checked, never run.

An ignore that is not needed is an error: it means that a wrong use is no longer seen.
"""

from __future__ import annotations

from penstock import Policy, Pool, Resource

rotating = Policy("search").rotating(["key-a", "key-b"])
pool = Pool(["key-a", "key-b"])


async def search(key: Resource[str], query: str, *, limit: int = 10) -> list[str]:
    return [key.value, query] * limit


async def without(query: str) -> list[str]:
    return [query]


async def numbers(key: Resource[int], query: str) -> list[str]:
    return [query] * key.value


@rotating
async def decorated(key: Resource[str], query: str) -> list[str]:
    return [key.value, query]


async def wrong() -> None:
    await rotating.call(search)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await rotating.call(search, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await rotating.call(without, "query")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await rotating.call(numbers, "query")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await decorated(Resource("key"), "query")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await pool.run(search, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.run(numbers, "query")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = await pool.run(search, "query")  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    assert text
    Pool(["a"], cooldwon=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Policy().rotating(pool, pick_by="random")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
