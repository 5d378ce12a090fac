"""What a service is made of, from its start to its end, and how a request comes to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.errors import ConfigError
from penstock.policy import Policy
from penstock.pool import Pool

__all__ = ["from_state", "lifespan", "running"]


def lifespan(
    *parts: Any, **made: object
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return a lifespan that gives policies, clients and what other lifespans yield as state.

    Everything is made when the server starts, in the loop that will use it, and closed in the
    reverse order when it stops, also where the start fails half-way::

        app = FastAPI(lifespan=lifespan(my_lifespan, http=httpx.AsyncClient, search=make_search))

    Args:
        parts: Lifespans, as Starlette takes them: called with the app, they return an async
            context manager that yields a mapping or None.
        made: State by name: a policy or pool as it is, or a function without arguments whose
            (awaited) result is entered where it is an async context manager.

    Raises:
        ConfigError: A value is neither a policy nor callable.
    """
    for name, each in made.items():
        if not callable(each) and not isinstance(each, Pool):
            raise ConfigError(
                f"lifespan: {name!r} must be a policy, or a function that makes what is wanted; "
                f"got {type(each).__name__}"
            )

    @asynccontextmanager
    async def whole(app: Any) -> AsyncGenerator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            state: dict[str, Any] = {}
            for part in parts:
                _add(state, await stack.enter_async_context(part(app)) or {})
            for name, each in made.items():
                _add(state, {name: await _made(each, stack)})
            yield state

    return whole


async def _made(each: Any, stack: AsyncExitStack) -> Any:
    # A policy is callable too: it wraps.
    thing: Any = each
    if not isinstance(each, Policy | Pool):
        thing = each()
    if isawaitable(thing):
        thing = await thing
    return await stack.enter_async_context(thing) if hasattr(thing, "__aenter__") else thing


def _add(state: dict[str, Any], more: Mapping[str, Any]) -> None:
    if twice := sorted(state.keys() & more.keys()):
        raise ConfigError(f"lifespan: state {', '.join(map(repr, twice))} is given twice")
    state.update(more)


def from_state(name: str) -> Callable[[HTTPConnection], Awaitable[Any]]:
    """Return a dependency of FastAPI's that brings a value of the lifespan's state.

    ``Search = Annotated[Policy, Depends(from_state("search"))]``; outside FastAPI, await it with
    the request or the WebSocket.

    Raises:
        RuntimeError: When a request comes and the state has no such value.
    """

    # FastAPI runs any other function in a thread.
    async def dependency(connection: HTTPConnection) -> Any:
        try:
            return connection.scope["state"][name]
        except KeyError:
            raise RuntimeError(
                f"no {name!r} in the state: the lifespan gives no such value, or did not run "
                "(httpx's ASGITransport runs none: give it what running(app) yields)"
            ) from None

    return dependency


@asynccontextmanager
async def running(app: Starlette) -> AsyncGenerator[ASGIApp]:
    """Run an app's lifespan, and yield the app as it is served: for tests with ASGITransport.

    ::

        async with running(app) as served, AsyncClient(transport=ASGITransport(served)) as client:
            ...
    """
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        yield served
