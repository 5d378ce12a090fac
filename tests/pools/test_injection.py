from __future__ import annotations

import inspect
from typing import Any

import pytest

from penstock import (
    Policy,
    PolicyError,
    Pool,
    Resource,
    current_call,
    current_lease,
    current_resource,
)
from penstock.testing import run

pytestmark = pytest.mark.virtual_time


async def search(key: Resource[str], query: str, *, limit: int = 10) -> str:
    """Search."""
    return f"{key.value} {query} {limit}"


async def with_keyword(query: str, *, api_key: str) -> str:
    """Take the value by keyword."""
    return f"{api_key} {query}"


async def without(query: str) -> str:
    """Ask for the resource."""
    return f"{current_resource().value} {current_lease().serial} {query}"


async def test_the_resource_comes_before_the_callers_arguments():
    """As the first positional argument."""
    policy = Policy().rotating(["a"])

    assert await policy.call(search, "query", limit=2) == "a query 2"


async def test_a_bound_method_is_given_the_resource_after_self():
    """It has its object already."""

    class Client:
        async def get(self, key: Resource[str], url: str) -> tuple[Any, str, str]:
            return self, key.value, url

    client = Client()
    policy = Policy().rotating(["a"])

    assert await policy.call(client.get, "url") == (client, "a", "url")


async def test_a_keyword_is_given_the_value():
    """What the caller passes by other names is kept."""
    policy = Policy().rotating(["a"], inject="api_key")

    assert await policy.call(with_keyword, query="query") == "a query"


async def test_nothing_is_injected_where_nothing_was_asked_for():
    """The operation asks for the resource itself."""
    policy = Policy().rotating(["a"], inject=None)

    assert await policy.call(without, "query") == "a 1 query"


async def test_the_current_resource_is_known_in_every_way_of_injection():
    """A helper far down the stack can report on it."""

    async def operation(*args: Any, **kwargs: Any) -> str | None:
        assert current_call().resource is current_lease().resource
        return current_resource().id

    for inject in ("first", "key", None):
        assert await Policy().rotating({"x": 1}, inject=inject).call(operation) == "x"
    assert await Pool({"x": 1}).run(operation) == "x"


@pytest.mark.parametrize("ask", [current_resource, current_lease])
async def test_outside_of_an_operation_there_is_no_resource(ask: Any):
    """Neither before a call, nor after it, nor under a policy without a pool."""
    with pytest.raises(PolicyError, match="no call under way"):
        ask()

    await Policy().rotating(["a"]).call(search, "query")

    with pytest.raises(PolicyError, match="no call under way"):
        ask()

    async def operation() -> None:
        ask()

    with pytest.raises(PolicyError, match="no resource is in use here"):
        await Policy().with_rate(10, cost=2, burst=5).call(operation)


async def test_a_decorated_function_loses_its_first_parameter():
    """Its name, documentation and the rest of its signature stay."""
    wrapped = Policy().rotating(["a"]).wrap(search)
    pooled = Pool(["a"]).rotated(search)

    for function in (wrapped, pooled):
        assert str(inspect.signature(function)) == "(query: 'str', *, limit: 'int' = 10) -> 'str'"
        assert (function.__name__, function.__doc__) == ("search", "Search.")
        assert inspect.iscoroutinefunction(function)
        assert await function("query", limit=3) == "a query 3"


async def test_a_decorated_method_loses_the_parameter_after_self():
    """On instances, on the class, and for class methods and static methods."""
    policy = Policy().rotating(["a"])
    pool = Pool(["b"])

    class Client:
        name = "client"

        @policy
        async def get(self, key: Resource[str], url: str) -> str:
            return f"{self.name} {key.value} {url}"

        @pool.rotated
        async def put(self, key: Resource[str], url: str) -> str:
            return f"{self.name} {key.value} {url}"

        @policy
        @classmethod
        async def make(cls, key: Resource[str], url: str) -> str:
            return f"{cls.name} {key.value} {url}"

        @staticmethod
        @policy
        async def plain(key: Resource[str], url: str) -> str:
            return f"{key.value} {url}"

    assert await Client().get("u") == "client a u"
    assert await Client.get(Client(), "u") == "client a u"  # type: ignore[arg-type]
    assert await Client().put("u") == "client b u"
    assert await Client.make("u") == "client a u"  # type: ignore[misc, arg-type]
    assert await Client.plain("u") == "a u"
    assert str(inspect.signature(Client.get)) == "(self, url: 'str') -> 'str'"


async def test_a_decorated_function_loses_the_keyword_that_is_filled_in():
    """Where a name was given."""
    wrapped = Policy().rotating(["a"], inject="api_key").wrap(with_keyword)

    assert str(inspect.signature(wrapped)) == "(query: 'str') -> 'str'"
    assert await wrapped("query") == "a query"


@pytest.mark.parametrize("inject", ["first", "token"])
def test_a_function_that_has_no_place_for_the_resource_is_refused(inject: str):
    """When it is wrapped, not when it is called."""

    async def alone() -> None: ...

    with pytest.raises(TypeError, match=r"alone has no .*parameter.* for the pool's resource"):
        Policy().rotating(["a"], inject=inject).wrap(alone)  # type: ignore[call-overload]


async def test_a_function_that_takes_anything_is_given_the_resource():
    """``*args`` has a place for it, and ``**kwargs`` for any keyword."""

    async def anything(*args: Any, **kwargs: Any) -> tuple[int, list[str]]:
        return len(args), sorted(kwargs)

    assert await Policy().rotating(["a"]).wrap(anything)("x") == (2, [])  # type: ignore[arg-type]
    assert await Policy().rotating(["a"], inject="key").wrap(anything)("x") == (1, ["key"])


async def test_arguments_are_the_callers_again_at_every_attempt():
    """A failed attempt's resource is not among those of the next one."""
    seen: list[tuple[Any, ...]] = []

    async def operation(*args: Any) -> str:
        seen.append(args)
        if len(seen) == 1:
            raise OSError
        return "done"

    await Policy().with_retry(3, wait=0).rotating(["a", "b"]).call(operation, "x")

    assert [(args[0].value, *args[1:]) for args in seen] == [("a", "x"), ("b", "x")]


def test_a_fallback_is_called_without_the_resource():
    """It answers where no resource could."""

    async def failing(key: Resource[str], query: str) -> str:
        raise OSError

    policy = Policy().with_fallback(lambda failure, query: f"cached {query}").rotating(["a"])

    async def main() -> Any:
        return await policy.call(failing, "query")

    assert run(main()) == "cached query"
