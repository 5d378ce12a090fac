"""A FastAPI service with every use of a policy that its tests ask about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request

from penstock import CircuitOpenError, Policy, RateLimitedError, Resource
from penstock.integrations.starlette import (
    StreamedResponse,
    from_state,
    install,
    lifespan,
    while_connected,
)

log: list[str] = []


@asynccontextmanager
async def own(_app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
    """Stand for a lifespan that the service had already."""
    log.append("own began")
    yield {"greeting": "hello"}
    log.append("own ended")


def make_busy() -> Policy:
    """Return a policy that lets few in and lets few wait."""
    return Policy("busy").with_timeout(30).with_concurrency(5, max_queue=10)


app = FastAPI(lifespan=lifespan(own, busy=make_busy, held=Policy("held").with_concurrency(4)))
install(app)

Busy = Annotated[Policy, Depends(from_state("busy"))]
Held = Annotated[Policy, Depends(from_state("held"))]

keys = Policy("keys").rotating([Resource("sk-one", id="one"), Resource("sk-two", id="two")])


@app.middleware("http")
async def through(request: Request, call_next: Any) -> Any:
    """Stand between server and endpoint, with a ``receive`` of its own."""
    return await call_next(request)


@app.get("/work")
async def work(busy: Busy, seconds: float = 0.02) -> str:
    """Do some work under a policy that the lifespan made."""
    await busy.call(asyncio.sleep, seconds)
    return "done"


@app.api_route("/wait", methods=["GET", "POST"])
async def wait(request: Request, held: Held, seconds: float = 30) -> str:
    """Work for as long as somebody wants the answer."""
    await while_connected(request, held.call(asyncio.sleep, seconds))
    return "done"


@app.get("/stream")
async def stream(held: Held) -> StreamedResponse:
    """Stream without an end."""

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "tick\n"
                await asyncio.sleep(0.01)
        finally:
            log.append("stream closed")

    return StreamedResponse(held.stream(ticks))


@app.get("/key")
@keys
async def key(resource: Resource[str], query: str) -> dict[str, str]:
    """Answer by one of two keys."""
    return {"key": resource.id, "query": query}


@keys
async def chosen(resource: Resource[str], user: str = "nobody") -> str:
    """Depend on a key."""
    return f"{user} by {resource.id}"


@app.get("/depends")
async def depends(by: Annotated[str, Depends(chosen)]) -> str:
    """Take what a dependency under a policy brings."""
    return by


@app.get("/refused/{how}")
async def refused(how: str) -> None:
    """Fail as policies fail."""
    if how == "open":
        raise CircuitOpenError("circuit 'billing' is open", retry_after=12.2)
    if how == "rate":
        raise RateLimitedError("rate 'billing' is spent", retry_after=0.01)
    await Policy("slow").with_timeout(0.01).call(asyncio.sleep, 5)


@app.get("/state")
async def state(request: Request, busy: Busy, held: Held) -> dict[str, Any]:
    """Tell what is held."""
    stages = (*busy.snapshot()["stages"], *held.snapshot()["stages"])
    held_now = {n: sum(s.get(n, 0) for s in stages) for n in ("in_flight", "waiting", "running")}
    return {**held_now, "greeting": request.state.greeting, "log": log}
