from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import inspect
import pickle
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Self

import pytest

from penstock import (
    ConcurrencyLimitedError,
    ConfigError,
    NoResourceError,
    Policy,
    PolicyError,
    Pool,
    RateLimitedError,
    Resource,
    current_resource,
)
from penstock.events import CallStarted
from penstock.integrations.clients import bound as bounds
from penstock.integrations.clients import known
from penstock.testing import EventLog

pytestmark = pytest.mark.virtual_time


class Pages:
    """What can be awaited for its first page, or iterated."""

    def __init__(self, acme: Acme) -> None:
        self.acme = acme
        self.size = 2

    def __await__(self) -> Generator[Any, None, list[str]]:
        return self.acme.answer("pages").__await__()

    def __aiter__(self) -> AsyncIterator[str]:
        raise AssertionError("the policy goes round what it would do")


class Connecting:
    """What can be awaited, and entered."""

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(1).__await__()
        return "awaited"

    async def __aenter__(self) -> str:
        return "entered"

    async def __aexit__(self, *failure: object) -> None: ...


class Page(list[str]):
    """What comes of ``Pages``."""

    async def __aiter__(self) -> AsyncIterator[str]:
        for item in self:
            yield item


class Completions:
    """A part of the client."""

    def __init__(self, acme: Acme) -> None:
        self.acme = acme
        self.label = "completions"

    def create(self, prompt: str, *, stream: bool = False) -> Awaitable[str]:
        """Answer a prompt."""
        return self.acme.answer(prompt)

    async def visibly(self, prompt: str) -> str:
        return await self.acme.answer(prompt)

    def later(self, prompt: str) -> asyncio.Future[str]:
        return asyncio.ensure_future(self.acme.answer(prompt))

    def count(self, prompt: str) -> int:
        return len(prompt)

    def list(self) -> Pages:
        return Pages(self.acme)

    @asynccontextmanager
    async def stream(self, prompt: str) -> AsyncIterator[str]:
        yield prompt

    def connect(self) -> Connecting:
        return Connecting()

    async def items(self) -> AsyncIterator[str]:
        yield "an item"

    async def words(self, prompt: str) -> AsyncIterator[str]:
        yield await self.acme.answer(prompt)


class Acme:
    """Made as SDKs are: a client, its parts, methods that only return awaitables."""

    def __init__(self, key: str = "none", failures: int = 0) -> None:
        self.key = key
        self.timeout = 60
        self.base_url = "https://api.acme.example/v1"
        self.asked: list[str] = []
        self.left = [failures]
        self.chat = SimpleNamespace(completions=Completions(self))
        self.is_open = False
        self.parent: Acme | None = None
        self.kind = Completions

    async def answer(self, prompt: str) -> Any:
        top = self
        while top.parent is not None:
            top = top.parent
        top.asked.append(f"{prompt} by {self.key}")
        if self.left[0] > 0:
            self.left[0] -= 1
            raise ConnectionResetError("scripted")
        await asyncio.sleep(1)
        return Page(["a", "b"]) if prompt == "pages" else f"{prompt}!"

    async def ping(self) -> str:
        return await self.answer("ping")

    def with_options(self, **options: Any) -> Acme:
        other = Acme(options.get("api_key", self.key))
        other.timeout = options.get("timeout", self.timeout)
        other.left, other.parent = self.left, self
        other.base_url = options.get("base_url", self.base_url)
        return other

    async def __aenter__(self) -> Self:
        self.is_open = True
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.is_open = False

    def __enter__(self) -> Self:
        self.is_open = True
        return self

    def __exit__(self, *failure: object) -> None:
        self.is_open = False

    async def close(self) -> None:
        self.is_open = False

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> str:
        return self.asked[place]


def rekeyed(client: Acme, key: Resource[str]) -> Acme:
    """Return a copy with the key."""
    return client.with_options(api_key=key.value)


# --- looks --------------------------------------------------------------------------------------


def test_a_wrapped_client_looks_like_the_client():
    """To isinstance, repr, dir, comparison, hash and whoever reads or sets an attribute."""
    acme = Acme()

    client = Policy("p").wrap_client(acme)

    assert isinstance(client, Acme)
    assert isinstance(client.chat.completions, Completions)
    assert "under policy 'p'" in repr(client)
    assert dir(client) == dir(acme)
    assert client == acme
    assert acme == client
    assert client != Acme()
    assert hash(client) == hash(acme)
    assert str(client) == str(acme)
    assert client.timeout == 60
    assert client.chat.completions.label == "completions"


def test_attributes_are_set_and_deleted_on_the_client():
    """The stand-in has none of its own."""
    acme = Acme()
    client = Policy("p").wrap_client(acme)

    client.timeout = 5
    client.chat.completions.label = "other"
    del client.is_open

    assert acme.timeout == 5
    assert acme.chat.completions.label == "other"
    assert not hasattr(acme, "is_open")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = client.nothing


def test_a_part_that_is_replaced_is_found():
    """Through the stand-in at once; a method on the client itself too, for tests that do that."""
    acme = Acme()
    client = Policy("p").wrap_client(acme)
    assert client.chat.completions.count("four") == 4

    acme.chat.completions.count = lambda prompt: 100
    assert client.chat.completions.count("four") == 100

    client.chat = SimpleNamespace(completions=SimpleNamespace(count=lambda prompt: 200))
    assert client.chat.completions.count("four") == 200


def test_parts_and_methods_are_looked_up_once():
    """The second time costs what it costs on the client."""
    client = Policy("p").wrap_client(Acme())

    assert client.chat is client.chat
    assert client.chat.completions.create is client.chat.completions.create
    assert client.chat.completions.create.__name__ == "create"
    assert client.chat.completions.create.__doc__ == "Answer a prompt."
    assert "prompt" in inspect.signature(client.chat.completions.create).parameters
    assert inspect.iscoroutinefunction(client.chat.completions.visibly)


async def test_a_wrapped_client_is_entered_and_left():
    """The block gets the stand-in, and the client is opened and closed."""
    acme = Acme()
    client = Policy("p").wrap_client(acme)

    async with client as entered:
        assert entered is client
        assert acme.is_open
    assert not acme.is_open
    with client as entered:
        assert entered is client
        assert acme.is_open
    assert not acme.is_open


async def test_what_the_client_can_do_besides_passes_on():
    """Length and items; what it cannot do the stand-in cannot either."""
    client = Policy("p").wrap_client(Acme())
    await client.ping()

    assert len(client) == 3
    assert client[0] == "ping by none"
    assert client.kind is Completions
    with pytest.raises(TypeError):
        iter(client.chat)
    assert not callable(client)
    assert callable(client.ping)


async def test_a_client_that_is_awaited_to_be_opened_stays_wrapped():
    """As those of redis are: ``client = await Redis()``."""

    class Opened(Acme):
        def __await__(self) -> Generator[Any, None, Opened]:
            yield from asyncio.sleep(1).__await__()
            return self

    client = Policy("p").wrap_client(Opened())

    assert await client is client


def test_a_wrapped_client_is_copied_as_a_wrapped_client():
    """By the copy module; a pickle is refused, for it would hold the key."""
    acme = Acme()
    client = Policy("p").wrap_client(acme)

    assert "under policy" in repr(copy.copy(client))
    assert "under policy" in repr(copy.deepcopy(client))
    assert copy.copy(client) != client
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)


# --- calls --------------------------------------------------------------------------------------


@pytest.mark.finding(3)
@pytest.mark.parametrize("method", ["create", "visibly", "later"])
async def test_whatever_returns_an_awaitable_runs_under_the_policy(method: str):
    """A coroutine function, a plain function that returns a coroutine, one that returns a task."""
    acme = Acme(failures=2)
    client = Policy("p").with_retry(3, wait=1).wrap_client(acme)

    answer = await getattr(client.chat.completions, method)("hello")

    assert answer == "hello!"
    assert acme.asked == ["hello by none"] * 3


async def test_what_returns_something_else_is_returned_as_it_is():
    """A plain method, an async iterator, an async context manager: none of them is one call."""
    client = Policy("p").with_retry(3).wrap_client(Acme())

    assert client.chat.completions.count("four") == 4
    assert [item async for item in client.chat.completions.items()] == ["an item"]
    async with client.chat.completions.stream("hello") as stream:
        assert stream == "hello"
    assert isinstance(client.chat.completions.connect(), Connecting)
    async with client.chat.completions.connect() as connection:
        assert connection == "entered"


async def test_a_call_is_named_by_its_path():
    """In events and so in everything that is made of them."""
    log = EventLog()
    client = Policy("p", observers=[log]).wrap_client(Acme())

    await client.chat.completions.create("hello")
    await client.ping()

    names = {event.operation for event in log.events if hasattr(event, "operation")}
    assert names == {"chat.completions.create", "ping"}


async def test_a_call_can_be_a_task():
    """A coroutine comes back, whatever the method returns."""
    client = Policy("p").wrap_client(Acme())

    task = asyncio.create_task(client.chat.completions.later("hello"))

    assert await task == "hello!"


async def test_a_refused_call_leaves_nothing_behind():
    """The coroutine that was made to see what the method returns is closed; no warning comes."""
    policy = Policy("p").with_rate("1/min", max_wait=0)
    acme = Acme()
    client = policy.wrap_client(acme)
    await client.ping()

    with pytest.raises(RateLimitedError):
        await client.chat.completions.create("hello")

    gc.collect()
    assert acme.asked == ["ping by none"]


async def test_what_was_made_for_a_refused_call_is_closed_at_once():
    """Not when the error is dropped, which may be kept for long; and nothing is left in a cycle."""
    made: list[Any] = []

    class Telling(Acme):
        def create(self, prompt: str) -> Awaitable[str]:
            made.append(self.answer(prompt))
            return made[-1]

    client = Policy("p").with_concurrency(1, max_queue=0).wrap_client(Telling())
    prompt = Page()
    gone = weakref.ref(prompt)
    first = asyncio.create_task(client.create(prompt))
    await asyncio.sleep(0)
    with pytest.raises(ConcurrencyLimitedError) as refused:
        await client.create("hello")
    await first

    assert inspect.getcoroutinestate(made[1]) == inspect.CORO_CLOSED
    del refused, prompt, first
    made.clear()
    assert gone() is None


async def test_a_call_that_never_begins_leaves_nothing_behind():
    """Cancelled before its first step, or closed without being awaited."""
    client = Policy("p").wrap_client(Acme())

    task = asyncio.create_task(client.chat.completions.create("hello"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    client.chat.completions.create("hello").close()

    del task
    gc.collect()


async def test_the_signature_of_the_method_is_asked_at_the_call():
    """Wrong arguments fail at once, as on the client, and are no failed attempt."""
    client = Policy("p").with_retry(3).wrap_client(Acme())

    with pytest.raises(TypeError, match="prompt"):
        client.chat.completions.create()


async def test_what_can_be_awaited_and_iterated_stays_both():
    """Each way is a call under the policy, as often as it is gone."""
    acme = Acme(failures=1)
    client = Policy("p").with_retry(3, wait=1).wrap_client(acme)

    pages = client.chat.completions.list()

    assert isinstance(pages, Pages)
    assert pages.size == 2
    assert await pages == ["a", "b"]
    assert [item async for item in client.chat.completions.list()] == ["a", "b"]
    assert acme.asked == ["pages by none"] * 3


async def test_closing_a_client_is_no_call_of_the_policy():
    """A limit that is used up must not keep its connections open."""
    acme = Acme()
    client = Policy("p").with_rate("1/min", max_wait=0).wrap_client(acme)
    acme.is_open = True
    await client.ping()

    await client.close()

    assert not acme.is_open


async def test_a_view_of_a_policy_wraps_with_its_overrides():
    """``using(attempts=1)`` is one attempt, for every call of the client."""
    acme = Acme(failures=1)
    client = Policy("p").with_retry(3).using(attempts=1).wrap_client(acme)

    with pytest.raises(ConnectionResetError):
        await client.ping()


# --- copies -------------------------------------------------------------------------------------


async def test_a_copy_is_wrapped_as_the_client_is():
    """What ``with_options`` returns goes on under the policy, and the client is not changed."""
    acme = Acme(failures=2)
    client = Policy("p").with_retry(3, wait=1).wrap_client(acme, only=["ping"])

    other = client.with_options(timeout=5)

    assert isinstance(other, Acme)
    assert (other.timeout, acme.timeout) == (5, 60)
    assert await other.ping() == "ping!"
    assert len(acme.asked) == 3
    acme.left[0] = 1
    with pytest.raises(ConnectionResetError):
        await other.chat.completions.create("not covered")


# --- only ---------------------------------------------------------------------------------------


async def test_only_covers_what_it_names():
    """A path, or all below a part; the rest is the client's own."""
    acme = Acme(failures=2)
    policy = Policy("p").with_retry(3, wait=1)

    client = policy.wrap_client(acme, only=("chat.completions.create",))
    with pytest.raises(ConnectionResetError):
        await client.ping()
    assert await client.chat.completions.create("hello") == "hello!"

    acme.left[0] = 1
    client = policy.wrap_client(acme, only=["chat.*"])
    assert await client.chat.completions.visibly("hello") == "hello!"
    acme.left[0] = 1
    with pytest.raises(ConnectionResetError):
        await client.ping()


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (["chat.completions.creat"], "no 'chat.completions.creat'; did you mean 'chat.completions"),
        (["chat.compeltions.create"], "did you mean 'chat.completions'?"),
        (["zzz"], "the client has no 'zzz'$"),
        (["zzz.*"], r"the client has no 'zzz\.\*'$"),
        (["chat"], r"'chat' is no method; for all that is below it: 'chat\.\*'"),
        ([], "'only' must not be empty"),
        ("ping", "'only' must be a list of dotted paths; got 'ping'"),
        (5, "'only' must be a list of dotted paths; got 5"),
        ([5], "'only' must be a list of dotted paths; it has 5"),
        ([""], "it has ''"),
    ],
)
def test_only_is_checked_against_the_client(only: Any, message: str):
    """A path that leads nowhere would quietly cover nothing."""
    with pytest.raises(ConfigError, match=message):
        Policy("p").wrap_client(Acme(), only=only)


# --- resources ----------------------------------------------------------------------------------


async def test_each_attempt_has_a_key_of_its_own():
    """The method is looked up on the client that is bound to the attempt's resource."""
    acme = Acme(failures=2)
    policy = Policy("p").with_retry(3, wait=1).rotating(["a", "b", "c"], pick="round_robin")
    client = policy.wrap_client(acme, bind=rekeyed)

    assert await client.chat.completions.create("hello") == "hello!"

    assert acme.asked == ["hello by a", "hello by b", "hello by c"]


async def test_a_client_is_bound_once_per_resource():
    """However many calls there are; anew for a copy, and when an attribute was set."""
    bound: list[str | None] = []

    def bind(client: Acme, key: Resource[str]) -> Acme:
        bound.append(key.id)
        return rekeyed(client, key)

    client = Policy("p").rotating(["a", "b"], pick="round_robin").wrap_client(Acme(), bind=bind)

    for _ in range(4):
        await client.ping()
    assert bound == ["1", "2"]
    await client.with_options(timeout=5).ping()
    assert bound == ["1", "2", "1"]
    client.timeout = 10
    await client.ping()
    assert len(bound) == 4


async def test_bound_clients_go_with_their_resources():
    """A pool that takes keys in and out does not gather clients; and there is a most."""
    resources = [Resource(str(n), id=str(n)) for n in range(5)]
    bound = bounds.Bound(Acme(), rekeyed, None, is_ours=False)

    for resource in resources:
        assert bound.to(resource).key == resource.value
    assert len(bound._clients) == 5
    del resource, resources
    gc.collect()

    assert len(bound._clients) == 0


async def test_the_oldest_bound_client_makes_room(monkeypatch: pytest.MonkeyPatch):
    """Memory is bounded; the one that went is bound anew when it is needed."""
    monkeypatch.setattr(bounds, "_MOST", 2)
    resources = [Resource(str(n), id=str(n)) for n in range(3)]
    bound = bounds.Bound(Acme(), rekeyed, None, is_ours=False)

    first = bound.to(resources[0])
    for resource in resources[1:]:
        bound.to(resource)

    assert len(bound._clients) == 2
    assert bound.to(resources[0]) is not first


async def test_clients_that_the_user_has_bound_are_the_users_to_close():
    """Closing the wrapped client closes the client, and binds anew where it is used again."""
    acme, made = Acme(), []

    def bind(client: Acme, key: Resource[str]) -> Acme:
        made.append(rekeyed(client, key))
        made[-1].is_open = True
        return made[-1]

    client = Policy("p").rotating(["a"]).wrap_client(acme, bind=bind)
    await client.ping()
    await client.close()
    await client.ping()

    assert [bound.is_open for bound in made] == [True, True]


async def test_calls_that_are_not_covered_use_the_client_itself():
    """Under rotation too: no resource is taken for them."""
    acme = Acme("own")
    policy = Policy("p").rotating(["a"])
    client = policy.wrap_client(acme, bind=rekeyed, only=["ping"])

    await client.chat.completions.create("hello")
    await client.ping()

    assert acme.asked == ["hello by own", "ping by a"]


async def test_a_task_that_was_made_for_another_key_is_cancelled():
    """A method that starts its work when it is called is asked again with the right key."""
    acme = Acme("own")
    client = Policy("p").rotating(["a"]).wrap_client(acme, bind=rekeyed)

    assert await client.chat.completions.later("hello") == "hello!"

    assert acme.asked == ["hello by a"]


async def test_without_injection_the_client_finds_the_key_itself():
    """Nothing has to be bound where the client asks for its key; ``bind`` works all the same."""
    keys: list[str] = []

    class Asking(Acme):
        async def answer(self, prompt: str) -> Any:
            keys.append(current_resource().value)
            return await super().answer(prompt)

    policy = Policy("p").rotating(["a"], inject=None)

    await policy.wrap_client(Asking()).ping()
    acme = Acme()
    await policy.wrap_client(acme, bind=rekeyed).ping()

    assert keys == ["a"]
    assert acme.asked == ["ping by a"]


@pytest.mark.parametrize("made", [None, "a coroutine"])
async def test_bind_has_to_return_a_client(made: Any):
    """Found at the first attempt, which is the last: nothing is retried for it."""

    async def coroutine() -> None: ...

    def bind(client: Acme, key: Resource[str]) -> Any:
        return coroutine() if made else None

    policy = Policy("p").with_retry(3).rotating(["a"])
    client = policy.wrap_client(Acme(), bind=bind)

    with pytest.raises(PolicyError, match=r"bind must return a client; got (NoneType|coroutine)"):
        await client.ping()


def test_resources_that_go_elsewhere_are_refused():
    """A client sends what it is given to its own server, whatever the resource is for."""
    keys = [Resource("a", id="ann", origins=["https://api.other.example"])]

    with pytest.raises(ConfigError) as caught:
        Policy("p").rotating(keys).wrap_client(Acme(), bind=rekeyed)

    assert "resource 'ann' is for https://api.other.example" in str(caught.value)
    assert "the client is for https://api.acme.example" in str(caught.value)


async def test_a_resource_that_comes_later_and_goes_elsewhere_is_not_sent():
    """Nor one that ``bind`` gives to a client of another server; the server sees nothing of it."""
    pool_policy = Policy("p").rotating([Resource("a", origins=["https://api.acme.example"])])
    acme = Acme()

    def elsewhere(client: Acme, key: Resource[str]) -> Acme:
        return client.with_options(api_key=key.value, base_url="https://evil.example")

    with pytest.raises(PolicyError, match=r"must not be sent to https://evil\.example"):
        await pool_policy.wrap_client(acme, bind=elsewhere).ping()

    assert acme.asked == []


async def test_a_value_for_another_server_is_not_shown_to_bind():
    """A resource that joined the pool later: the pool's policy asks before it hands it over."""
    acme, bound = Acme(), []
    pool = Pool([Resource("a", id="a", origins=["https://api.acme.example"])])

    def bind(client: Acme, key: Resource[str]) -> Acme:
        bound.append(key.value)
        return rekeyed(client, key)

    client = Policy("p").rotating(pool).wrap_client(acme, bind=bind)
    pool.add(Resource("b", id="b", origins=["https://api.other.example"]))
    pool.disable("a")
    with pytest.raises(PolicyError, match="resource 'b' must not be sent to https://api"):
        await client.ping()

    assert bound == []


@pytest.mark.parametrize("is_ours", [True, False])
async def test_what_the_row_of_an_sdk_has_bound_it_closes(*, is_ours: bool):
    """And not what the user's own ``bind`` has made."""
    released: list[Any] = []

    class Row(known.KnownClient):
        async def release(self, bound: Any) -> None:
            released.append(bound.key)

    bound = bounds.Bound(Acme(), rekeyed, Row(), is_ours=is_ours)
    key = Resource("a", id="a")
    bound.to(key)
    await bound.release()
    await bound.release()

    assert released == (["a"] if is_ours else [])


@pytest.mark.parametrize(
    ("policy", "bind", "message"),
    [
        (Policy("p").rotating(["a"]), None, "how a Acme takes a resource is not known; say it: wr"),
        (Policy("p"), rekeyed, "'bind' needs resources; add .rotating"),
        (Policy("p").rotating(["a"]), "key", "'bind' must be a function of client and resource"),
        (Policy("p").rotating(["a"], inject="api_key"), None, "hands its values over as 'api_key'"),
    ],
)
def test_what_binds_has_to_go_with_the_policy(policy: Any, bind: Any, message: str):
    """Each mistake is named when the client is wrapped."""
    with pytest.raises(ConfigError, match=message):
        policy.wrap_client(Acme(), bind=bind)


async def test_an_exhausted_pool_leaves_nothing_behind():
    """No coroutine is left of a call that found no resource."""
    policy = Policy("p").rotating(["a"])
    client = policy.wrap_client(Acme(), bind=rekeyed)
    policy.stages[0].pool.disable("1")  # type: ignore[attr-defined]

    with pytest.raises(NoResourceError):
        await client.chat.completions.create("hello")

    gc.collect()


# --- what is wrapped ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", [None, Acme, "client", Acme().ping, len])
def test_what_is_no_client_is_refused(what: Any):
    """The class, a name, a method: one line too few or too many."""
    with pytest.raises(TypeError, match="wrap_client takes the client of an SDK"):
        Policy("p").wrap_client(what)


async def test_a_policy_round_a_policy_is_two():
    """A wrapped client can be wrapped: each policy keeps its own count."""
    acme = Acme(failures=3)
    inner = Policy("inner").with_retry(2, wait=1).wrap_client(acme)
    outer = Policy("outer").with_retry(2, wait=1).wrap_client(inner)

    assert await outer.ping() == "ping!"

    assert len(acme.asked) == 4


def test_a_known_client_is_found_by_its_module():
    """Nothing else is asked of it, and nothing is imported for one that is not known."""

    class Odd(Acme):
        __module__ = "openai_of_mine.client"

    assert known.known_client(Acme()) is None
    assert known.known_client(Odd()) is None


def test_of_a_client_without_a_row_of_its_own_nothing_is_known():
    """What a row leaves out is what holds for any client."""
    row, acme = known.KnownClient(), Acme()

    assert not row.binds(acme)
    assert row.own_retries(acme) is None
    assert row.url(acme) is None
    assert row.instead_of_sync(acme) is None
    assert row.telling(acme, "ping", print) is None
    with pytest.raises(NotImplementedError):
        row.owns(acme)


@pytest.mark.parametrize(
    ("row", "package", "extra"),
    [
        ("openai", "openai", "openai"),
        ("anthropic", "anthropic", "anthropic"),
        ("google_genai", "google", "google-genai"),
    ],
)
def test_a_missing_sdk_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, row: str, package: str, extra: str
):
    """The line that installs it is in the message."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"penstock.integrations.{row}", raising=False)

    with pytest.raises(ImportError, match=rf"pip install 'penstock\[{extra}\]'"):
        importlib.import_module(f"penstock.integrations.{row}")


# --- streams ------------------------------------------------------------------------------------


async def test_a_stream_of_a_client_of_the_same_policy_is_under_it_once():
    """Three attempts are three, also by the method of a wrapped client."""
    acme = Acme(failures=99)
    policy = Policy("chat").with_retry(attempts=3, wait=1)
    client = policy.wrap_client(acme)

    with pytest.raises(ConnectionResetError):
        async with policy.using(attempts=2).stream(client.chat.completions.create, "hi"):
            pass
    with pytest.raises(ConnectionResetError):
        async with policy.stream(client.chat.completions.create, "hi"):
            pass

    assert acme.asked == ["hi by none"] * 5


@pytest.mark.parametrize("inject", ["first", None])
async def test_a_stream_of_a_client_that_rotates_has_the_key_of_its_attempt(inject: str | None):
    """A failure of one key is followed by an attempt with the other."""
    acme = Acme(failures=1)
    policy = (
        Policy("chat")
        .with_retry(attempts=3)
        .rotating({"ann": "sk-ann", "ben": "sk-ben"}, inject=inject)
    )
    client = policy.wrap_client(acme, bind=rekeyed)
    words: Any = client.chat.completions.words

    log: list[str] = []
    async with policy.stream(words, "hi") as items:
        log.extend([word async for word in items])

    assert log == ["hi!"]
    assert acme.asked == ["hi by sk-ann", "hi by sk-ben"]


async def test_a_stream_of_another_policys_client_is_under_both():
    """Each was asked for: the one further in makes its attempts within an attempt of the other."""
    acme = Acme(failures=99)
    client = Policy("inner").with_retry(attempts=2, wait=1).wrap_client(acme)

    with pytest.raises(ConnectionResetError):
        async with (
            Policy("outer")
            .with_retry(attempts=3, wait=1)
            .stream(client.chat.completions.create, "hi")
        ):
            pass

    assert acme.asked == ["hi by none"] * 6


async def test_a_stream_of_a_wrapped_method_has_its_path_for_a_name():
    """As every other call of the client."""
    log = EventLog()
    policy = Policy("chat", observers=[log]).with_timeout(9)
    client = policy.wrap_client(Acme())

    async with policy.stream(client.chat.completions.words, "hi"):
        pass

    assert log.of(CallStarted)[0].operation == "chat.completions.words"
