"""FastAPI: policies made at the start, given to endpoints, and their refusals as answers."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import uvicorn
from fastapi import Depends, FastAPI, Request

from penstock import Policy, Resource
from penstock.integrations.starlette import from_state, install, lifespan, while_connected

API = os.environ.get("SEARCH_API", "https://api.example.com")
URL = API + os.environ.get("SEARCH_PATH", "/search")
KEYS = os.environ.get("SEARCH_KEYS", "sk-ann,sk-ben").split(",")

# Callers of this service: so many at once, so many in line, the others are told to come back.
door = Policy("door").with_concurrency(50, max_queue=100, max_wait=2)


def make_search() -> Policy:
    keys = [Resource(key, id=f"key-{n}", origins=[API]) for n, key in enumerate(KEYS)]
    return Policy("search").with_timeout(10).with_retry(attempts=3, wait=0.2).rotating(keys)


@asynccontextmanager
async def own(app: FastAPI) -> AsyncGenerator[dict[str, str]]:
    yield {"motto": "water drives the turbine"}  # what your service has already


app = FastAPI(lifespan=lifespan(own, door=door, search=make_search, http=httpx.AsyncClient))
install(app)  # 503 or 429 with Retry-After, 504

Search = Annotated[Policy, Depends(from_state("search"))]
Http = Annotated[httpx.AsyncClient, Depends(from_state("http"))]


async def fetch(key: Resource[str], http: httpx.AsyncClient, query: str) -> str:
    headers = {"Authorization": f"Bearer {key.value_for(URL)}"}
    return (await http.get(URL, params={"q": query}, headers=headers)).raise_for_status().text


@app.get("/search")
@door
async def search(request: Request, policy: Search, http: Http, q: str) -> dict[str, str]:
    # The call ends when the client goes, and gives back its place and its key.
    found = await while_connected(request, policy.call(fetch, http, q))
    return {"found": found, "motto": request.state.motto}


if __name__ == "__main__":
    uvicorn.run(app)
