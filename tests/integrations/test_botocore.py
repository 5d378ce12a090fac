from __future__ import annotations

import asyncio
import importlib
import io
import os
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import botocore.session
import httpx
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import ClientError, EndpointConnectionError

from penstock import (
    CallTimeoutError,
    ConfigError,
    NoResourceError,
    Policy,
    PolicyOrderWarning,
    Resource,
)
from penstock.classify import classify
from penstock.integrations.clients.known import known_client
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration

OBJECT_SIZE = 120_000
QUERY: dict[str, Any] = {"TableName": "turbines", "Key": {"id": {"S": "1"}}}
OBJECT: dict[str, Any] = {"Bucket": "turbines", "Key": "pelton"}

Open = Callable[..., Awaitable[Any]]


class Service:
    """The fake service, and what it is told to do to the requests of one test."""

    def __init__(self, console: httpx.Client, name: str) -> None:
        self.url = f"{console.base_url}/{name}"
        self._console = console
        self._script = f"script/{name}"

    def tell(self, *steps: dict[str, Any]) -> None:
        """Say how the next requests are answered."""
        self._console.put(self._script, json=steps)

    def seen(self) -> list[dict[str, str]]:
        """Return the requests since then."""
        requests: list[dict[str, str]] = self._console.get(self._script).json()
        return requests


@pytest.fixture(scope="module")
def console() -> Iterator[httpx.Client]:
    """Run the fake service, and return what it can be told by."""
    with (
        serve("dynamo") as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False) as opened,
    ):
        yield opened


@pytest.fixture(scope="module", autouse=True)
def _no_credentials_of_this_machine() -> Iterator[None]:
    """Keep files and the metadata service of a cloud out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="module")
def session() -> AioSession:
    """Return what makes clients; it reads the descriptions of services once."""
    return get_session()


@pytest.fixture
def service(console: httpx.Client, request: pytest.FixtureRequest) -> Service:
    """Return the service, with nothing told yet."""
    told = Service(console, "".join(filter(str.isalnum, request.node.name)))
    told.tell()
    return told


@pytest.fixture
async def connect(service: Service, session: AioSession) -> AsyncIterator[Open]:
    """Return what opens clients that do not retry."""
    async with AsyncExitStack() as opened:

        async def one(name: str = "dynamodb", key: str = "KEY", **config: Any) -> Any:
            own = {"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}}
            client = session.create_client(
                name,
                region_name="eu-west-1",
                endpoint_url=service.url,
                aws_access_key_id=key,
                aws_secret_access_key="secret",
                config=AioConfig(**{**own, **config}),
            )
            return await opened.enter_async_context(client)

        yield one


@pytest.fixture
def policy() -> Policy:
    """Return a policy that retries at once."""
    return Policy("aws").with_timeout(5).with_retry(attempts=3, wait=0)


async def failure_of(attempt: Awaitable[Any]) -> BaseException:
    """Return what an awaitable raises."""
    (raised,) = await asyncio.gather(attempt, return_exceptions=True)
    assert isinstance(raised, BaseException), raised
    return raised


# --- retry --------------------------------------------------------------------------------------


@pytest.mark.covers("botocore", "retry")
async def test_what_may_pass_is_tried_again(connect: Open, service: Service, policy: Policy):
    """A time-out of the table's own and a connection that is cut off, then the item."""
    client = policy.wrap_client(await connect())
    service.tell({"code": "InternalServerError", "status": 500}, {"cut": 10})

    answer = await client.get_item(**QUERY)

    assert answer["Item"]["name"] == {"S": "Pelton"}
    assert [request["target"] for request in service.seen()] == ["GetItem"] * 3


@pytest.mark.covers("botocore", "retry")
async def test_a_refused_write_is_not_retried(connect: Open, service: Service, policy: Policy):
    """The condition does not hold, however often it is asked."""
    client = policy.wrap_client(await connect())
    service.tell({"code": "ConditionalCheckFailedException"})

    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        await client.put_item(TableName="turbines", Item={"id": {"S": "1"}})

    assert len(service.seen()) == 1


@pytest.mark.covers("botocore", "replay")
async def test_a_body_is_sent_again_as_it_was(connect: Open, service: Service, policy: Policy):
    """A file begins again where it stood, and not at its end, where it would be empty."""
    client = policy.wrap_client(await connect("s3"))
    file = io.BytesIO(b"# water")
    file.seek(2)

    for body in (b"water", file):
        service.tell({"code": "InternalError", "status": 500})
        await client.put_object(**OBJECT, Body=body)

        assert [request["body"] for request in service.seen()] == ["water", "water"]


@pytest.mark.covers("botocore", "replay")
async def test_a_body_that_cannot_be_read_again_is_sent_once(
    connect: Open, service: Service, policy: Policy
):
    """The first failure is what the caller gets: nothing empty takes the object's place."""
    client = policy.wrap_client(await connect("s3"))
    service.tell({"code": "InternalError", "status": 500})

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(ClientError, match="InternalError"):
        await client.put_object(**OBJECT, Body=Pipe(b"water"), ContentLength=5)

    assert len(service.seen()) == 1


# --- the client's own retries -------------------------------------------------------------------


@pytest.mark.covers("botocore", "own retries")
@pytest.mark.finding(7)
async def test_a_client_that_retries_by_itself_is_warned_of(connect: Open, policy: Policy):
    """DynamoDB's ten times three of ours; the message has the line that switches them off."""
    client = await connect(retries=None)

    with pytest.warns(PolicyOrderWarning, match=r"3 x 10 = 30 .*\"total_max_attempts\": 1"):
        policy.wrap_client(client)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.wrap_client(await connect())


@pytest.mark.covers("botocore", "own retries")
@pytest.mark.parametrize(
    ("name", "retries", "requests"),
    [
        ("dynamodb", None, 10),
        ("s3", None, 5),
        ("s3", {"mode": "standard"}, 3),
        ("dynamodb", {"mode": "adaptive"}, 3),
        ("dynamodb", {"mode": "standard", "max_attempts": 3}, 4),
        ("dynamodb", {"max_attempts": 0}, 1),
    ],
)
async def test_what_a_client_does_by_itself_is_known(
    connect: Open, name: str, retries: Any, requests: int
):
    """In each of its modes, and where the number is set."""
    client = await connect(name, retries=retries)
    known = known_client(client)
    assert known is not None

    own = known.own_retries(client)

    assert own is not None
    assert own.requests == requests


async def test_the_number_is_what_the_client_really_does(connect: Open, service: Service):
    """Counted on the service."""
    client = await connect(retries={"mode": "legacy", "total_max_attempts": 3})
    service.tell(*[{"code": "InternalServerError", "status": 500}] * 5)

    await failure_of(client.get_item(**QUERY))
    known = known_client(client)
    assert known is not None
    own = known.own_retries(client)

    assert own is not None
    assert len(service.seen()) == own.requests == 3


async def test_a_client_that_blocks_is_refused(policy: Policy):
    """The message says what to write instead."""
    made = botocore.session.get_session().create_client(
        "s3", "eu-west-1", aws_access_key_id="KEY", aws_secret_access_key="secret"
    )

    with pytest.raises(TypeError, match=r"get_session\(\)\.create_client\('s3'\)"):
        policy.wrap_client(made)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    """The line that installs it is in the message."""
    monkeypatch.setitem(sys.modules, "aiobotocore.client", None)
    monkeypatch.delitem(sys.modules, "penstock.integrations.botocore", raising=False)

    with pytest.raises(ImportError, match=r"pip install 'penstock\[botocore\]'"):
        importlib.import_module("penstock.integrations.botocore")


# --- rotation -----------------------------------------------------------------------------------


@pytest.mark.covers("botocore", "rotation")
async def test_each_attempt_uses_the_client_of_its_credentials(connect: Open, service: Service):
    """Throttled credentials rest, expired ones are out; whoever is left serves."""
    keys = {key: await connect(key=key) for key in ("THROTTLED", "EXPIRED", "GOOD")}
    accounts = [Resource(client, id=key) for key, client in keys.items()]
    service.tell(
        {"code": "ThrottlingException", "keys": ["THROTTLED"]},
        {"code": "ExpiredTokenException", "keys": ["EXPIRED"]},
    )
    policy = Policy("aws").with_retry(attempts=4, wait=0).rotating(accounts, pick="round_robin")
    client = policy.wrap_client(keys["GOOD"], bind=lambda _, account: account.value)

    answers = [await client.get_item(**QUERY) for _ in range(3)]

    assert all("Item" in answer for answer in answers)
    assert [each["key"] for each in service.seen()] == ["THROTTLED", "EXPIRED", *["GOOD"] * 3]


@pytest.mark.covers("botocore", "origins")
async def test_credentials_for_another_endpoint_are_refused(connect: Open):
    """A client sends what it signs to its own endpoint alone, which has to be the resource's."""
    client = await connect()
    accounts = [Resource(client, id="a", origins=["https://dynamodb.eu-west-1.amazonaws.com"])]
    policy = Policy("aws").rotating(accounts)

    with pytest.raises(ConfigError, match=r"127\.0\.0\.1"):
        policy.wrap_client(client, bind=lambda _, account: account.value)


# --- what the service says ----------------------------------------------------------------------


@pytest.mark.covers("botocore", "server hint")
async def test_the_services_word_about_when_to_come_back_is_obeyed(connect: Open, service: Service):
    """``x-amz-retry-after`` is in milliseconds."""
    policy = Policy("aws").with_retry(attempts=2, wait=0)
    client = policy.wrap_client(await connect())
    service.tell({"code": "ThrottlingException", "headers": {"x-amz-retry-after": "150"}})

    began = time.monotonic()
    await client.get_item(**QUERY)

    assert 0.15 <= time.monotonic() - began < 1


@pytest.mark.covers("botocore", "server hint")
async def test_a_throttled_account_rests_for_as_long_as_it_was_told(
    connect: Open, service: Service
):
    """With nobody else to serve and no time to wait, the call is refused at once."""
    account = await connect()
    policy = Policy("aws").rotating([Resource(account, id="only")], max_wait=0)
    client = policy.wrap_client(account, bind=lambda _, resource: resource.value)
    service.tell({"code": "ThrottlingException", "headers": {"x-amz-retry-after": "60000"}})
    await failure_of(client.get_item(**QUERY))

    with pytest.raises(NoResourceError) as caught:
        await client.get_item(**QUERY)

    assert caught.value.retry_after is not None
    assert 59 < caught.value.retry_after <= 60


@pytest.mark.covers("botocore", "junk")
async def test_a_hint_that_makes_no_sense_is_ignored(connect: Open, service: Service):
    """It is throttled all the same."""
    client = await connect()
    hints = ["-1", "inf", "nan", "soon", "", "1e400", "0x10"]
    service.tell(
        *({"code": "ThrottlingException", "headers": {"x-amz-retry-after": h}} for h in hints)
    )

    verdicts = [classify(await failure_of(client.get_item(**QUERY))) for _ in hints]

    assert {(v.kind.value, v.retry_after) for v in verdicts} == {("rate_limited", None)}


@pytest.mark.covers("botocore", "junk")
async def test_an_answer_that_is_none_is_asked_for_again(connect: Open, service: Service):
    """A page of a proxy's, nothing, half an item, an item that was damaged on its way."""
    policy = Policy("aws").with_retry(attempts=6, wait=0)
    client = policy.wrap_client(await connect())
    service.tell(
        {"status": 500, "body": "<html>oops</html>"},
        {"status": 502, "body": ""},
        {"cut": 0},
        {"cut": 10},
        {"headers": {"x-amz-crc32": "5"}},
    )

    answer = await client.get_item(**QUERY)

    assert answer["Item"]["name"] == {"S": "Pelton"}
    assert len(service.seen()) == 6


_MEANINGS = {
    "dynamodb": {
        "ProvisionedThroughputExceededException 400": "rate_limited",
        "ThrottlingException 400": "rate_limited",
        "RequestLimitExceeded 400": "rate_limited",
        "InternalServerError 500": "transient",
        "ServiceUnavailable 503": "overloaded",
        "TransactionInProgressException 400": "transient",
        "ExpiredTokenException 400": "auth",
        "UnrecognizedClientException 400": "auth",
        "AccessDeniedException 400": "caller_bug",
        "ConditionalCheckFailedException 400": "caller_bug",
        "ResourceNotFoundException 400": "caller_bug",
        "ValidationException 400": "caller_bug",
    },
    "s3": {
        "SlowDown 503": "rate_limited",
        "InternalError 500": "transient",
        "RequestTimeout 400": "transient",
        "ExpiredToken 400": "auth",
        "InvalidAccessKeyId 403": "auth",
        "AccessDenied 403": "caller_bug",
        "NoSuchKey 404": "caller_bug",
    },
}


@pytest.mark.covers("botocore", "classified")
@pytest.mark.parametrize("name", ["dynamodb", "s3"])
async def test_error_codes_are_understood(connect: Open, service: Service, name: str):
    """As the service would send them."""
    client = await connect(name)
    found: dict[str, str] = {}

    for error in _MEANINGS[name]:
        code, status = error.split()
        service.tell({"code": code, "status": int(status)})
        request = client.get_object(**OBJECT) if name == "s3" else client.get_item(**QUERY)
        failure = await failure_of(request)
        assert isinstance(failure, ClientError)
        found[error] = classify(failure).kind.value

    assert found == _MEANINGS[name]


@pytest.mark.covers("botocore", "classified")
async def test_nobody_there_is_transient_and_nothing_was_sent(session: AioSession):
    """A rate limit gives the start back."""
    nobody = session.create_client(
        "dynamodb",
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="KEY",
        aws_secret_access_key="secret",
        config=AioConfig(retries={"total_max_attempts": 1}),
    )
    async with nobody as client:
        failure = await failure_of(client.get_item(**QUERY))

    verdict = classify(failure)
    assert isinstance(failure, EndpointConnectionError)
    assert (verdict.kind.value, verdict.sent) == ("transient", False)


# --- time and streams ---------------------------------------------------------------------------


@pytest.mark.covers("botocore", "deadline")
async def test_a_time_out_gives_the_connection_back(connect: Open, service: Service):
    """Ours and the client's own are the same kind of failure; a pool of one serves the next."""
    client = await connect(max_pool_connections=1)
    ours = Policy("aws").with_timeout(0.1).wrap_client(client)
    theirs = await connect(max_pool_connections=1, read_timeout=0.1)
    service.tell({"wait": 1}, {"wait": 1})

    failures = [await failure_of(each.get_item(**QUERY)) for each in (ours, theirs)]

    assert isinstance(failures[0], CallTimeoutError)
    assert [classify(failure).kind.value for failure in failures] == ["timeout", "timeout"]
    assert "Item" in await client.get_item(**QUERY)


@pytest.mark.covers("botocore", "streams")
async def test_an_object_is_read_inside_the_attempt(
    connect: Open, service: Service, policy: Policy
):
    """``get_object`` returns before the body has come: what reads it belongs to the operation."""
    client = await connect("s3")
    service.tell({"cut": 1000})

    async def download() -> bytes:
        answer = await client.get_object(**OBJECT)
        async with answer["Body"] as body:
            content: bytes = await body.read()
            return content

    assert len(await policy.call(download)) == OBJECT_SIZE
    assert len(service.seen()) == 2


@pytest.mark.covers("botocore", "streams")
async def test_a_wrapped_client_does_not_see_what_happens_to_a_body(
    connect: Open, service: Service, policy: Policy
):
    """The call has ended well when its headers are there; reading on is the reader's."""
    client = policy.wrap_client(await connect("s3"))
    service.tell({"cut": 1000})
    answer = await client.get_object(**OBJECT)

    async with answer["Body"] as body:
        failure = await failure_of(body.read())

    assert classify(failure).kind.value == "transient"
    assert len(service.seen()) == 1


@pytest.mark.covers("botocore", "streams")
async def test_a_permit_is_held_while_an_object_is_read(connect: Open, service: Service):
    """``policy.stream`` covers the whole body, and a reader who leaves gives the permit back."""
    policy = Policy("aws").with_retry(attempts=3, wait=0).with_concurrency(1, max_queue=0)
    client = await connect("s3")
    service.tell({"code": "SlowDown", "status": 503})

    async def chunks() -> AsyncIterator[bytes]:
        answer = await client.get_object(**OBJECT)
        async with answer["Body"] as body:
            async for chunk in body.iter_chunks(10_000):
                yield chunk

    def held() -> Any:
        return policy.snapshot()["stages"][-1]["in_flight"]

    async with policy.stream(chunks) as items:
        chunk = await anext(items)
        during = held()

    assert chunk.startswith(b"water ")
    assert (during, held()) == (1, 0)
