"""A key with origins goes to them and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import ConfigError, CooldownResource, NoResourceError, Policy, Pool, Resource
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time

OPENAI, OTHER = "https://api.openai.com/v1/chat", "https://evil.example/v1?next=api.openai.com"


def keys() -> list[Resource[str]]:
    """One key for one server, one for another, one for anywhere."""
    return [
        Resource("K1", "openai", origins=["https://api.openai.com"]),
        Resource("K2", "mine", origins=["https://api.mine.example:8443"]),
        Resource("K3", "any"),
    ]


async def get(*, url: str, api_key: str) -> tuple[str, str]:
    """Say who was sent where."""
    return url, api_key


async def test_a_call_is_served_by_the_keys_that_may_go_there():
    """Picked among them, in turns."""
    policy = Policy().rotating(keys(), inject="api_key", url="url")

    used = {(await policy.call(get, url=OPENAI))[1] for _ in range(6)}
    elsewhere = {(await policy.call(get, url=OTHER))[1] for _ in range(6)}
    ported = {(await policy.call(get, url="https://API.mine.example:8443/x"))[1] for _ in range(4)}

    assert (used, elsewhere, ported) == ({"K1", "K3"}, {"K3"}, {"K2", "K3"})


@pytest.mark.parametrize("url", [OTHER, "not a url", "https://api.openai.com@evil.example/", ""])
async def test_a_call_to_nowhere_that_a_key_may_go_is_refused(url: str):
    """Before anything is sent, and without the URL in the message."""
    policy = Policy().rotating(keys()[:2], inject="api_key", url="url")

    with pytest.raises(NoResourceError) as refused:
        await policy.call(get, url=url)

    assert refused.value.case == "empty"
    assert "evil" not in str(refused.value)


async def test_the_url_may_be_found_by_a_function():
    """Of the call: its positional arguments too."""
    pool = Pool(keys(), url=lambda call: call.args[0])

    async def fetch(key: Resource[str], url: str) -> str:
        return key.value_for(url)

    assert {await pool.run(fetch, OPENAI) for _ in range(4)} == {"K1", "K3"}


def test_a_key_with_origins_is_not_injected_blindly():
    """Where nobody says where calls go, its value is not handed out by keyword."""
    with pytest.raises(ConfigError, match="'inject' must be 'first' or None, or used with 'url'"):
        Policy().rotating(keys(), inject="api_key")

    Policy().rotating(keys())
    Policy().rotating(keys()[2:], inject="api_key")


async def test_health_is_kept_for_each_server():
    """A key that rests for one of its servers serves the others, as with any dimension."""
    both = Resource("K", "both", origins=["https://a.example", "https://b.example"])
    pool = Pool([both], url="url")
    policy = Policy().rotating(pool)

    async def where(key: Resource[str], *, url: str) -> str:
        if url == "https://b.example/full":
            raise CooldownResource(5)
        return key.value_for(url)

    with pytest.raises(CooldownResource):
        await policy.call(where, url="https://b.example/full")

    assert await policy.call(where, url="https://a.example/x") == "K"
    with pytest.raises(NoResourceError):
        await policy.call(where, url="https://b.example/x")


async def test_a_block_that_says_no_url_holds_no_key_with_origins():
    """``pool.lease()`` goes nowhere that anybody knows of."""
    pool = Pool(keys(), url="url")

    async with pool.lease() as lease:
        assert lease.resource.id == "any"


async def test_a_resource_added_later_serves_where_it_may():
    """And is not seen where it may not."""
    pool = Pool(keys()[:1], url="url")
    policy = Policy().rotating(pool)

    async def who(key: Resource[str], *, url: str) -> str | None:
        return key.id

    assert await policy.call(who, url=OPENAI) == "openai"
    with pytest.raises(NoResourceError):
        await policy.call(who, url=OTHER)

    pool.add(Resource("K4", "late"))

    assert await policy.call(who, url=OTHER) == "late"
    pool.remove("openai")
    assert await policy.call(who, url=OPENAI) == "late"


async def test_another_attempt_goes_to_another_resource():
    """Also after a failure that is nobody's: one that fails fast is least in flight for ever."""
    served: list[str | None] = []

    async def operation(key: Resource[str]) -> str:
        served.append(key.id)
        if key.id == "bad":
            raise ConnectionError
        return "done"

    for pick in ("least_in_flight", "most_remaining", "least_total", "random", "sticky"):
        pool = Pool({"bad": 1, "good": 2}, pick=pick)
        policy = Policy().with_retry(2, wait=0).rotating(pool).using(key="k")
        assert [await policy.call(operation) for _ in range(5)] == ["done"] * 5

    assert served.count("bad") <= served.count("good")


async def test_a_primary_is_tried_again_before_its_backup():
    """The order is the user's own: a failure that passes does not change it."""
    served: list[Any] = []
    work = scripted(ConnectionError(), then=takes(1, "done"))

    async def operation(key: Resource[str]) -> Any:
        served.append(key.id)
        return await work()

    policy = Policy().with_retry(2, wait=0).rotating({"a": 1, "b": 2}, pick="primary_backup")

    assert await policy.call(operation) == "done"
    assert served == ["a", "a"]
