"""The transports of httpx and httpx2 over a transport of ours, in virtual time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock import CallTimeoutError, ConfigError, Policy, PolicyError, Pool, Resource
from penstock.testing import Sweep, cancel_sweep
from tests.integrations.httpx_kits import KITS, Kit

pytestmark = pytest.mark.virtual_time

URL = "http://api.example/items"


def shows(*behaviours: str) -> pytest.MarkDecorator:
    """Run a test with httpx and with httpx2, each for its own row of the table."""
    return pytest.mark.parametrize(
        "kit",
        [
            pytest.param(
                kit, id=kit.name, marks=[pytest.mark.covers(kit.name, b) for b in behaviours]
            )
            for kit in KITS
        ],
    )


class Service:
    """What a transport needs, with every answer counted until it is closed.

    Args:
        kit: Whose answers it gives.
        answers: Status, seconds until the head, seconds between chunks; the last one again and
            again. An exception is raised instead.
    """

    def __init__(self, kit: Kit, *answers: tuple[int, float, float] | Exception) -> None:
        self.kit = kit
        self.answers = [*answers]
        self.requests: list[Any] = []
        self.seen: list[dict[str, float]] = []
        self.open = 0
        self.closed = 0
        self.transport = _transport_of(self)

    async def answer(self, request: Any) -> Any:
        """Answer a request."""
        self.requests.append(request)
        self.seen.append(dict(request.extensions.get("timeout", {})))
        step = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(step, Exception):
            raise step
        status, before, between = step
        await asyncio.sleep(before)
        return self.kit.lib.Response(status, stream=_body_of(self, between))


def _transport_of(service: Service) -> Any:
    class Transport(service.kit.lib.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            return await service.answer(request)

        async def aclose(self) -> None:
            service.closed += 1

    return Transport()


def _body_of(service: Service, between: float) -> Any:
    class Body(service.kit.lib.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.is_open = True
            service.open += 1

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in (b"one\n", b"two\n"):
                await asyncio.sleep(between)
                yield chunk

        async def aclose(self) -> None:
            service.open -= self.is_open
            self.is_open = False
            # A connection may have something to do before it is free.
            await asyncio.sleep(0)

    return Body()


def in_flight(policy: Policy) -> int:
    """Return how many permits and leases are out."""
    total = 0
    for stage in policy.snapshot()["stages"]:
        total += stage.get("in_flight", 0)
        total += sum(r["in_flight"] for r in stage.get("resources", {}).values())
    return total


@shows("discard", "streams", "deadline")
@pytest.mark.parametrize("reads", ["whole", "lines", "head"])
def test_a_cancel_at_any_point_leaves_no_permit_lease_or_answer(kit: Kit, reads: str):
    """Between attempts, with the head, in the body, while it closes: everything comes back."""

    async def pause(_attempt: object, _failure: object) -> None:
        await asyncio.sleep(0.1)

    async def use(client: Any) -> None:
        if reads == "whole":
            await client.get(URL)
            return
        async with client.stream("GET", URL) as response:
            if reads == "lines":
                assert [line async for line in response.aiter_lines()] == ["one", "two"]

    async def scenario(sweep: Sweep) -> tuple[Policy, Service]:
        service = Service(kit, (503, 0.1, 0.1), (429, 0.1, 0.1), (200, 0.1, 0.1))
        policy = Policy().with_timeout(60).with_retry(4, wait=0.1, on_retry=pause)
        policy = policy.with_concurrency(1).with_timeout(30).rotating(["a", "b"])
        client = kit.client(policy, service.transport)
        other = kit.client(policy, service.transport)
        sweep.victim(use(client))
        sweep.beside(use(other))
        return policy, service

    def check(state: tuple[Policy, Service]) -> None:
        policy, service = state
        assert (in_flight(policy), service.open) == (0, 0)

    assert cancel_sweep(scenario, check) > 20


@shows("deadline")
async def test_the_time_that_is_left_is_handed_down(kit: Kit):
    """Each attempt's limits are the least of the client's and what the call has left."""
    service = Service(kit, (503, 4.0, 0.0), (200, 0.0, 0.0))
    policy = Policy().with_timeout(10).with_retry(2, wait=0)
    timeout = kit.lib.Timeout(None, connect=3)

    client = kit.client(policy, service.transport, client_timeout=timeout)
    async with client.stream("GET", URL):
        within = service.requests[-1].extensions["timeout"]

    first, second = service.seen
    assert first == {"connect": 3, **dict.fromkeys(("read", "write", "pool"), pytest.approx(10.05))}
    assert second["read"] == pytest.approx(6.05)
    # The body is the reader's: the client's own limits hold again.
    assert within == timeout.as_dict()


@shows("deadline")
async def test_a_request_without_a_time_limit_is_sent_as_it_is(kit: Kit):
    """Nothing to put in and nothing to lower: not even a copy is made."""
    service = Service(kit, (200, 0, 0))

    response = await kit.client(Policy().with_retry(2), service.transport).get(URL)

    assert service.requests == [response.request]
    assert service.requests[0] is response.request


@shows("deadline")
async def test_a_reader_in_another_task_meets_the_time_limit_at_the_next_chunk(kit: Kit):
    """The cancel goes to the task that has sent; whoever reads elsewhere is told when it can be."""
    service = Service(kit, (200, 0, 3.0))
    policy = Policy().with_timeout(2).with_concurrency(1)
    client = kit.client(policy, service.transport, client_timeout=None)
    request = client.build_request("GET", URL)
    response = await asyncio.create_task(client.send(request, stream=True))

    with pytest.raises(CallTimeoutError):
        await response.aread()
    at = asyncio.get_running_loop().time()
    await response.aclose()

    assert (at, in_flight(policy), service.open) == (3.0, 0, 0)


@shows("replay")
@pytest.mark.parametrize(("method", "sent"), [("GET", 4), ("POST", 3)])
async def test_what_is_not_idempotent_is_not_moved_to_another_key_on_its_way(
    kit: Kit, method: str, sent: int
):
    """An older call's 429 cancels younger ones of the key to begin again; not a POST."""
    service = Service(kit, (429, 1, 0), (200, 5, 0))
    policy = Policy().with_retry(3, wait=0).rotating(["a", "b"], pick="primary_backup")
    client = kit.client(policy, service.transport)

    older = asyncio.create_task(client.request(method, URL))
    await asyncio.sleep(0.5)
    younger = asyncio.create_task(client.request(method, URL))
    responses = await asyncio.gather(older, younger)

    assert [response.status_code for response in responses] == [200, 200]
    assert len(service.requests) == sent


@shows("streams", "rotation")
async def test_an_answer_that_is_being_read_keeps_its_key(kit: Kit):
    """A 429 for another call of the key does not cut it off."""
    service = Service(kit, (200, 0, 5), (429, 1, 0), (200, 0, 0))
    policy = Policy().with_retry(3, wait=0).rotating(["a", "b"], pick="primary_backup")
    client = kit.client(policy, service.transport)

    async def read() -> str:
        text: str = (await client.get(URL)).text
        return text

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    await client.get(URL)

    assert await reading == "one\ntwo\n"


@shows("retry")
async def test_a_fallback_answers_with_a_response_of_its_own(kit: Kit):
    """It takes the place of the last bad answer, which is closed; anything else is refused."""
    service = Service(kit, (503, 0, 0))
    instead = kit.lib.Response(200, text="kept")

    kept = kit.client(Policy().with_fallback(value=instead), service.transport)
    wrong = kit.client(Policy().with_fallback(value="text"), service.transport)
    response = await kept.get(URL)

    assert (response.text, service.open) == ("kept", 0)
    with pytest.raises(PolicyError, match="must return a Response"):
        await wrong.get(URL)
    assert service.open == 0


@shows("retry", "discard")
async def test_an_answer_that_a_stage_replaces_is_closed(kit: Kit):
    """A stage of the user's knows nothing of what it swallows."""
    service = Service(kit, (503, 0, 0))
    instead = kit.lib.Response(200, text="kept")

    async def swallow(call: Any, call_next: Any) -> Any:
        try:
            return await call_next(call)
        except Exception:  # noqa: BLE001 - whatever it is
            return instead

    response = await kit.client(Policy().with_stage(swallow), service.transport).get(URL)

    assert (response.text, service.open) == ("kept", 0)


@shows("replay")
async def test_a_body_that_was_read_into_memory_on_its_way_can_be_sent_again(kit: Kit):
    """A transport that reads an iterator leaves bytes behind."""
    bodies: list[bytes] = []

    async def parts() -> AsyncIterator[bytes]:
        yield b"some "
        yield b"parts"

    def answer(request: Any) -> Any:
        bodies.append(request.content)
        return kit.lib.Response(503 if len(bodies) < 3 else 200)

    policy = Policy().with_timeout(5).with_retry(3, wait=0)
    client = kit.client(policy, kit.lib.MockTransport(answer))

    assert (await client.put(URL, content=parts())).status_code == 200
    assert bodies == [b"some parts"] * 3


@shows("classified")
@pytest.mark.parametrize(("answer", "sent"), [(None, 2), ("ok", 1), ("caller_bug", 1)])
async def test_a_function_that_knows_nothing_of_an_answer_leaves_it_to_the_status(
    kit: Kit, answer: str | None, sent: int
):
    """What it does say counts, also that a bad status is good."""
    service = Service(kit, (503, 0, 0), (200, 0, 0))
    policy = Policy().with_retry(2, wait=0)
    client = kit.client(policy, service.transport, classify=lambda _: answer)

    await client.get(URL)

    assert len(service.requests) == sent


@shows("replay")
@pytest.mark.parametrize(("first", "sent"), [("unsent", 2), ("sent", 1)])
async def test_a_stream_that_nobody_knows_is_sent_again_where_nothing_was_sent(
    kit: Kit, first: str, sent: int
):
    """Whether it was begun cannot be told, so an attempt that may have begun it is the last."""

    class Body(kit.lib.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b""

    error = kit.lib.ConnectError("dead") if first == "unsent" else kit.lib.ReadError("reset")
    service = Service(kit, error, (200, 0, 0))
    client = kit.client(Policy().with_retry(2, wait=0), service.transport)

    try:
        await client.send(kit.lib.Request("PUT", URL, stream=Body()))
    except kit.lib.ReadError:
        assert first == "sent"

    assert len(service.requests) == sent


@shows("rotation")
async def test_a_function_makes_transports_without_a_pool_too(kit: Kit):
    """Nobody rests when its connection fails; the error is raised as it is."""
    service = Service(kit, kit.lib.ConnectError("dead"))

    with pytest.raises(kit.lib.ConnectError):
        await kit.client(Policy(), lambda _: service.transport).get(URL)


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
def test_an_answer_that_outlives_its_loop_gives_back_what_it_held(kit: Kit):
    """The connections are gone with the loop; the policy goes on in the next one."""
    policy = Policy().with_concurrency(1)
    client = kit.client(policy, Service(kit, (200, 0, 0)).transport)

    async def leave() -> Any:
        return await client.send(client.build_request("GET", URL), stream=True)

    response = asyncio.run(leave())
    held = in_flight(policy)
    del response
    gc.collect()

    assert (held, in_flight(policy)) == (1, 0)


@shows("rotation")
async def test_transports_of_resources_are_closed_with_the_transport(kit: Kit):
    """Each is made once, when it is first needed; one that fails to close spares the others."""
    services = {name: Service(kit, (200, 0, 0)) for name in "abc"}

    def through(resource: Any) -> Any:
        return services[resource.value].transport

    async def broken() -> None:
        raise OSError("closed already")

    services["a"].transport.aclose = broken
    policy = Policy().rotating(dict(zip("abc", "abc", strict=True)), pick="round_robin")
    async with kit.client(policy, through) as client:
        for _ in range(4):
            await client.get(URL)

    assert [len(service.requests) for service in services.values()] == [2, 1, 1]
    assert [service.closed for service in services.values()] == [0, 1, 1]


@shows("discard")
async def test_the_transport_inside_is_closed_with_it(kit: Kit):
    """Whether it was entered or not."""
    entered, closed = Service(kit, (200, 0, 0)), Service(kit, (200, 0, 0))

    async with kit.client(Policy(), entered.transport):
        pass
    await kit.client(Policy(), closed.transport).aclose()

    assert (entered.closed, closed.closed) == (1, 1)


@shows("discard")
async def test_an_answer_that_was_read_before_it_came_holds_nothing(kit: Kit):
    """A mock's answers have their bodies: nobody closes them, so nothing waits for that."""
    policy = Policy().with_concurrency(1)
    inner = kit.lib.MockTransport(lambda request: kit.lib.Response(200, text=request.url.path))

    async with kit.client(policy, inner) as client, client.stream("GET", URL) as response:
        held = in_flight(policy)

    assert (response.text, held) == ("/items", 0)


@shows("classified")
async def test_an_error_that_closing_raises_reaches_the_stages(kit: Kit):
    """A body that cannot be closed is a failed call, and gives back what it held."""
    service = Service(kit, (200, 0, 0))
    policy = Policy().with_concurrency(1).with_breaker(failures=1)
    client = kit.client(policy, service.transport)
    response = await client.send(client.build_request("GET", URL), stream=True)

    async def broken() -> None:
        raise kit.lib.CloseError("reset")

    response.stream._stream._body.aclose = broken
    with pytest.raises(kit.lib.CloseError):
        await response.aclose()

    circuit = policy.snapshot()["stages"][1]
    assert (in_flight(policy), circuit["state"]) == (0, "open")


@shows("origins")
async def test_a_pool_that_picks_by_url_gets_it(kit: Kit):
    """Keys of two services in one pool: each request has the key of the service that it goes to."""
    keys = Pool(
        [
            _key("eu", "https://eu.example"),
            _key("us", "https://us.example"),
        ],
        url="url",
    )
    service = Service(kit, (200, 0, 0))
    policy = Policy().rotating(keys)
    client = kit.client(policy, service.transport, header="x-api-key")

    for host in ("us", "eu", "asia"):
        await client.get(f"https://{host}.example/")

    assert [request.headers.get("x-api-key") for request in service.requests] == ["us", "eu", None]


def _key(name: str, origin: str) -> Any:
    return Resource(name, id=name, origins=[origin])


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replay": "never"}, "'replay' must be 'safe' or 'always'"),
        ({"classify": "opnai"}, "did you mean 'openai'"),
        ({"inner": 5}, "'inner' must be a transport"),
        ({"header": "x-api-key"}, "origins"),
        ({"header": "x-api-key", "form": "Bearer", "origins": ["http://a"]}, "{}"),
        ({"header": "x-api-key", "origins": ["http://a/path"]}, "origins"),
    ],
)
def test_what_cannot_work_is_refused_when_built(kit: Kit, wrong: dict[str, Any], said: str):
    """Each mistake is named before anything is sent."""
    given = {"inner": Service(kit, (200, 0, 0)).transport, **wrong}

    with pytest.raises(ConfigError) as raised:
        kit.ours.PolicyTransport(Policy().rotating(["key"]), **given)

    assert said in str(raised.value)


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
def test_a_header_for_keys_that_are_not_there_is_refused_when_built(kit: Kit):
    """Requests would go without a key, and nobody would say why."""
    with pytest.raises(ConfigError, match="has none"):
        kit.ours.PolicyTransport(Policy("api"), header="x-api-key", origins=["http://a"])
