from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import time
import typing
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from penstock import (
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    ConfigError,
    NoResourceError,
    Policy,
    PolicyError,
    Pool,
    RateLimitedError,
    Resource,
)
from penstock.integrations.starlette import (
    from_state,
    install,
    lifespan,
    problem,
    running,
    while_connected,
)
from penstock.testing import scripted, takes
from tests.integrations.serving import serve

APP = Path(__file__).with_name("servers") / "web_app.py"


# --- the lifespan ------------------------------------------------------------------------------


class Thing:
    """Something that is open between its start and its end."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def __aenter__(self) -> typing.Self:
        self.log.append(f"{self.name} opened")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.log.append(f"{self.name} closed")


def part(name: str, log: list[str], **state: object) -> Callable[[Any], Any]:
    """Return a lifespan as a user writes it."""

    @asynccontextmanager
    async def own(_app: object) -> AsyncGenerator[dict[str, object] | None]:
        async with Thing(name, log):
            yield state or None

    return own


async def test_everything_is_opened_in_order_and_closed_in_reverse():
    """Lifespans first, with their app, then what is made; each is in the state."""
    log: list[str] = []
    policy, pool = Policy("given"), Pool(["a"])

    async def awaited() -> str:
        return "awaited"

    whole = lifespan(
        part("first", log, one=1),
        part("second", log),
        thing=lambda: Thing("thing", log),
        policy=policy,
        pool=pool,
        made=lambda: Policy("made"),
        late=awaited,
    )
    async with whole(Starlette()) as state:
        during = list(log)

    assert during == ["first opened", "second opened", "thing opened"]
    assert log[3:] == ["thing closed", "second closed", "first closed"]
    assert list(state) == ["one", "thing", "policy", "pool", "made", "late"]
    assert (state["policy"], state["pool"], state["late"]) == (policy, pool, "awaited")
    assert state["made"].name == "made"


async def test_a_start_that_fails_closes_what_was_open():
    """And the server gets to see the failure."""
    log: list[str] = []
    whole = lifespan(part("first", log), thing=lambda: Thing("thing", log), bad=lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        await whole(Starlette()).__aenter__()

    assert log == ["first opened", "thing opened", "thing closed", "first closed"]


async def test_a_name_is_given_once():
    """Otherwise one of the two would never be seen."""
    with pytest.raises(ConfigError, match="state 'one' is given twice"):
        await lifespan(part("own", [], one=1), one=lambda: 2)(Starlette()).__aenter__()


def test_a_value_that_is_no_policy_and_makes_none_is_refused():
    """Its value is not shown: it may be a key."""
    with pytest.raises(ConfigError, match=r"'key' must be a policy, or a function .* got str") as e:
        lifespan(key="sk-secret")

    assert "sk-secret" not in str(e.value)


def _app(**made: object) -> Starlette:
    async def endpoint(request: Request) -> PlainTextResponse:
        policy: Policy = await from_state("policy")(request)
        return PlainTextResponse(policy.name)

    return Starlette(routes=[Route("/", endpoint)], lifespan=lifespan(**made))


async def test_an_app_in_a_test_has_its_state():
    """``ASGITransport`` runs no lifespan; ``running`` does."""
    app = _app(policy=Policy("search"))

    async with running(app) as served:
        transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            answer = await client.get("/")

    assert answer.text == "search"


@pytest.mark.parametrize("made", [{}, {"other": Policy("other")}])
async def test_a_state_that_is_missing_says_what_may_be_wrong(made: dict[str, object]):
    """With a lifespan that did not run, and with one that gives something else."""
    transport = httpx.ASGITransport(_app(**made))  # type: ignore[arg-type]

    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        with pytest.raises(RuntimeError, match=r"no 'policy' in the state.*running\(app\)"):
            await client.get("/")


# --- what callers see --------------------------------------------------------------------------


@pytest.mark.covers("starlette", "server hint")
@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0.0, "1"), (0.01, "1"), (1.0, "1"), (12.2, "13"), (None, None), (float("inf"), None)],
)
def test_retry_after_is_in_whole_seconds(seconds: float | None, header: str | None):
    """Rounded up, never 0, and left out where nobody knows."""
    answer = problem(503, seconds)

    assert answer.headers.get("Retry-After") == header
    assert answer.media_type == "application/problem+json"


async def _answer(app: Starlette) -> httpx.Response:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.get("/")


def _failing(error: Exception) -> Starlette:
    async def endpoint(_: Request) -> PlainTextResponse:
        raise error

    return Starlette(routes=[Route("/", endpoint)])


@pytest.mark.covers("starlette", "classified")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CircuitOpenError("sk-secret"), 503),
        (ConcurrencyLimitedError("sk-secret"), 503),
        (NoResourceError("sk-secret"), 503),
        (RateLimitedError("sk-secret"), 429),
        (CallTimeoutError("sk-secret"), 504),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_each_refusal_has_its_status(error: Exception, status: int):
    """The answer tells the status and nothing of the error's message."""
    app = _failing(error)
    install(app)

    answer = await _answer(app)

    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert "secret" not in answer.text


async def test_statuses_are_by_the_most_specific_class():
    """Others may be given, and a handler that is added later has precedence."""
    app = _failing(NoResourceError(retry_after=2))
    install(app, {NoResourceError: 507})
    other = _failing(CircuitOpenError())
    install(other)

    async def own(*_: object) -> PlainTextResponse:
        return PlainTextResponse("own")

    other.add_exception_handler(CircuitOpenError, own)

    answers = await _answer(app), await _answer(other)

    assert (answers[0].status_code, answers[0].headers["Retry-After"]) == (507, "2")
    assert answers[1].text == "own"


async def test_a_client_that_has_gone_is_no_error():
    """A 500 would stand in the log."""
    app = _failing(ClientDisconnect())
    install(app)

    assert (await _answer(app)).status_code == 499


@pytest.mark.parametrize(
    ("statuses", "what"),
    [({ValueError: 503}, "ValueError"), ({PolicyError: 200}, "200"), ({"x": 503}, "'x'")],
)
def test_statuses_that_mean_nothing_are_refused(statuses: Any, what: str):
    """When the app is built, not when the first request fails."""
    with pytest.raises(ConfigError, match=what):
        install(Starlette(), statuses)


async def test_a_websocket_is_closed_with_try_again_later():
    """It has no status to answer with."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        raise CircuitOpenError("sk-secret")

    app, sent = Starlette(routes=[WebSocketRoute("/", endpoint)]), []
    install(app)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    await app(scope, receive, send)

    assert [each["type"] for each in sent] == ["websocket.accept", "websocket.close"]
    assert (sent[1]["code"], sent[1]["reason"]) == (1013, "Service Unavailable")


# --- clients that go away ----------------------------------------------------------------------


def _request(*messages: tuple[float, dict[str, Any]]) -> Request:
    """Return a request whose server says something at certain times."""
    left = [*messages]

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.get_running_loop().create_future()
        seconds, message = left.pop(0)
        await asyncio.sleep(seconds)
        return message

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


BODY = (0.0, {"type": "http.request", "body": b"all of it", "more_body": False})
GONE = {"type": "http.disconnect"}


@pytest.mark.covers("starlette", "types")
async def test_a_call_whose_client_stays_is_left_alone():
    """The body is there for the endpoint, and the result is that of the call.

    Type checkers see the same: ``tests/typing/starlette_right_uses.py``.
    """
    request = _request(BODY, (1, {"type": "http.request"}))

    result = await while_connected(request, asyncio.sleep(3, "done"))
    await asyncio.sleep(0)

    assert (result, await request.body()) == ("done", b"all of it")
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.covers("starlette", "discard")
async def test_a_call_whose_client_goes_gives_everything_back():
    """It is cancelled at that moment, and the task is not."""
    policy = Policy().with_concurrency(1).with_timeout(60)
    task: Any = asyncio.current_task()

    with pytest.raises(ClientDisconnect):
        await while_connected(_request(BODY, (2, GONE)), policy.call(asyncio.sleep, 30))

    concurrency, timeout = policy.snapshot()["stages"]
    assert (concurrency["in_flight"], timeout["running"]) == (0, 0)
    assert asyncio.get_running_loop().time() == 2
    assert task.cancelling() == 0


async def test_a_client_that_went_before_the_body_came_starts_nothing():
    """No attempt is made, and no coroutine is left that was never awaited."""
    policy, operation = Policy(), scripted("done")

    with pytest.raises(ClientDisconnect):
        await while_connected(_request((0, GONE)), policy.call(operation))

    assert operation.calls == []


async def test_a_body_that_was_read_as_a_stream_is_not_asked_for():
    """The server's next word is that the client has gone."""
    request = _request(BODY, (1, GONE))
    read = [chunk async for chunk in request.stream()]

    with pytest.raises(ClientDisconnect):
        await while_connected(request, asyncio.sleep(30))

    assert read[0] == b"all of it"


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_cancel_from_elsewhere_stays_a_cancel(*, is_gone: bool):
    """Also when the client goes in the same moment."""
    messages = (BODY, (1, GONE)) if is_gone else (BODY,)
    task = asyncio.create_task(while_connected(_request(*messages), asyncio.sleep(30)))
    await asyncio.sleep(0.5)
    # After the timer of the client, and before that has cancelled anything.
    asyncio.get_running_loop().call_later(0.5, task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelling() == 1


async def test_a_call_that_ends_when_its_client_goes_leaves_no_cancel_behind():
    """It had a result, or swallowed the cancel; what comes after it is not cancelled."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "saved"
        return "done"

    result = await while_connected(_request(BODY, (1, GONE)), stubborn())
    await asyncio.sleep(1)

    task: Any = asyncio.current_task()
    assert (result, task.cancelling()) == ("saved", 0)


# --- finding 11 --------------------------------------------------------------------------------

KEYS = Policy("keys").rotating(["a", "b"])


class Service:
    """Has a method that a pool serves."""

    @KEYS
    async def method(self, key: Resource[str], query: str) -> str:
        """Ask."""
        return f"{query} by {key.value}"


@KEYS
async def function(key: Resource[str], query: str) -> str:
    """Ask."""
    return f"{query} by {key.value}"


@Policy("named").rotating(["a", "b"], inject="key")
async def named(query: str, *, key: str) -> str:
    """Ask."""
    return f"{query} by {key}"


@pytest.mark.finding(11)
@pytest.mark.parametrize("wrapped", [function, Service.method, Service().method, named])
def test_the_callers_of_an_injected_function_are_not_asked_for_the_resource(wrapped: Any):
    """Neither its signature nor its annotations name it; the function inside keeps them."""
    inside = inspect.unwrap(wrapped)

    assert "key" not in inspect.signature(wrapped).parameters
    assert wrapped.__annotations__ == {"query": "str", "return": "str"}
    assert typing.get_type_hints(wrapped) == {"query": str, "return": str}
    assert "key" in inside.__annotations__


# --- a real service, in a process of its own ---------------------------------------------------


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """Serve the app of ``web_app.py`` by uvicorn."""
    with serve("uvicorn_server", APP) as url:
        yield url


@pytest.fixture
def client(service: str) -> Iterator[httpx.Client]:
    """Return a client of the service; nothing is held there afterwards."""
    with httpx.Client(base_url=service, trust_env=False) as client:
        yield client
        assert _held(client) == {"in_flight": 0, "waiting": 0, "running": 0}


def _held(client: httpx.Client, *, expected: int = 0) -> dict[str, int]:
    # The server hears of a client that has gone a moment later.
    by = time.monotonic() + 5
    while True:
        state = client.get("/state").json()
        if state["in_flight"] == expected or time.monotonic() > by:
            return {name: state[name] for name in ("in_flight", "waiting", "running")}
        time.sleep(0.01)


@pytest.mark.integration
def test_a_service_under_load_answers_all_or_says_that_it_is_busy(client: httpx.Client):
    """Eighty requests for five places and ten in line: nobody waits for long, none fails."""

    async def load() -> Counter[int]:
        limits = httpx.Limits(max_connections=80)
        async with httpx.AsyncClient(
            base_url=client.base_url, limits=limits, trust_env=False, timeout=30
        ) as many:
            answers = await asyncio.gather(*(many.get("/work") for _ in range(80)))
        return Counter(answer.status_code for answer in answers)

    statuses = asyncio.run(load())

    assert statuses.keys() == {200, 503}
    assert statuses[200] >= 15


@pytest.mark.integration
@pytest.mark.finding(11)
@pytest.mark.covers("starlette", "rotation")
def test_an_endpoint_under_a_policy_that_rotates_asks_callers_for_their_own_alone(
    client: httpx.Client,
):
    """As an endpoint and as a dependency; its documentation too."""
    paths = client.get("/openapi.json").json()["paths"]
    answers = [client.get("/key", params={"query": "q"}).json()["key"] for _ in range(2)]
    depends = client.get("/depends", params={"user": "ann"}).json()

    assert [each["name"] for each in paths["/key"]["get"]["parameters"]] == ["query"]
    assert [each["name"] for each in paths["/depends"]["get"]["parameters"]] == ["user"]
    assert set(answers) == {"one", "two"}
    assert depends in ("ann by one", "ann by two")


@pytest.mark.integration
@pytest.mark.covers("starlette", "server hint")
@pytest.mark.covers("starlette", "deadline")
@pytest.mark.parametrize(
    ("how", "status", "retry_after"),
    [("open", 503, "13"), ("rate", 429, "1"), ("slow", 504, None)],
)
def test_refusals_are_answers(client: httpx.Client, how: str, status: int, retry_after: str | None):
    """With the seconds in the header, and no word of the policy."""
    answer = client.get(f"/refused/{how}")

    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "billing" not in answer.text


@pytest.mark.integration
@pytest.mark.covers("starlette", "discard")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_call_of_a_client_that_closed_is_over(client: httpx.Client, method: str):
    """It would have held its permit for 30 s more."""
    with pytest.raises(httpx.ReadTimeout):
        client.request(method, "/wait", content=b"x" * 100_000, timeout=0.2)

    assert _held(client)["in_flight"] == 0


@pytest.mark.integration
@pytest.mark.covers("starlette", "streams")
def test_the_stream_of_a_client_that_closed_is_closed(client: httpx.Client):
    """The permit was held while the client read, and the source is closed too."""
    closed = client.get("/state").json()["log"].count("stream closed")

    with client.stream("GET", "/stream") as answer:
        texts = answer.iter_text()
        first = next(texts)
        during = _held(client, expected=1)["in_flight"]

    assert first.startswith("tick")
    assert during == 1
    assert _held(client)["in_flight"] == 0
    assert client.get("/state").json()["log"].count("stream closed") == closed + 1


@pytest.mark.integration
def test_without_starlette_the_error_names_the_extra():
    """The import is what fails, not the first request."""
    block = "import sys; sys.modules['starlette.applications'] = None"
    program = f"{block}; import penstock.integrations.starlette"
    ran = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert "ImportError: starlette is not installed" in ran.stderr
    assert "pip install 'penstock[starlette]'" in ran.stderr


async def test_an_operation_in_an_endpoint_is_seen_by_its_policy():
    """What is awaited through ``while_connected`` runs in the endpoint's own task."""
    seen: list[asyncio.Task[Any] | None] = []

    async def operation() -> None:
        seen.append(asyncio.current_task())

    await while_connected(_request(BODY), Policy().call(operation))
    await while_connected(_request(BODY), Policy().call(scripted(takes(1))))

    assert seen == [asyncio.current_task()]
