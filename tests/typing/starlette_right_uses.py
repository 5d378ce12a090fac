"""What endpoints get: checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, assert_type

import httpx
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from penstock import NoResourceError, Policy, Pool, RateLimitedError
from penstock.integrations.starlette import (
    StreamedResponse,
    from_state,
    install,
    lifespan,
    problem,
    running,
    while_connected,
)

policy = Policy("search")


@asynccontextmanager
async def own(app: FastAPI) -> AsyncGenerator[dict[str, object]]:
    yield {"motto": app.title}


async def late() -> Policy:
    return policy


def apps() -> None:
    made = lifespan(own, policy=policy, pool=Pool(["a"]), http=httpx.AsyncClient, late=late)
    app = FastAPI(lifespan=made)
    install(app)
    install(Starlette(lifespan=lifespan()), {RateLimitedError: 503, NoResourceError: 507})


Search = Annotated[Policy, Depends(from_state("search"))]


async def endpoint(request: Request, search: Search) -> Response:
    async def count(words: list[str]) -> int:
        return len(words)

    assert_type(await while_connected(request, search.call(count, ["a"])), int)
    assert_type(await while_connected(request, asyncio.sleep(1, "done")), str)
    return problem(503, retry_after=2)


async def numbers() -> AsyncGenerator[int]:
    yield 1


async def streams(search: Search) -> StreamedResponse:
    StreamedResponse(search.stream(numbers), lambda number: f"{number + 1}", status_code=203)
    return StreamedResponse(search.stream(numbers), str, media_type="text/plain")


async def in_a_test(app: Starlette, other: FastAPI) -> None:
    async with running(app) as served, running(other) as also:
        assert_type(served, ASGIApp)
        assert_type(also, ASGIApp)
