"""``policy.wrap`` and ``@policy``: the same function to callers, frameworks and type checkers."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import pickle
import threading
from collections.abc import AsyncIterator
from typing import Any
from xmlrpc.client import ServerProxy

import pytest

from penstock import Policy
from penstock.testing import scripted, takes

policy = Policy("wrapped").with_retry(2, wait=0).with_concurrency(5)


@policy
async def greet(name: str, /, greeting: str = "hello", *, times: int = 1) -> str:
    """Greet somebody."""
    return " ".join([f"{greeting} {name}"] * times)


@policy
def greet_slowly(name: str) -> tuple[str, bool]:
    """Block a thread."""
    return f"hello {name}", threading.current_thread() is threading.main_thread()


# --- what stays -------------------------------------------------------------------------------


def test_a_wrapped_function_looks_like_itself():
    """Name, documentation, module, annotations, signature, and the function itself inside."""
    original = inspect.unwrap(greet)

    assert original is not greet
    assert (greet.__name__, greet.__qualname__, greet.__module__) == (
        original.__name__,
        original.__qualname__,
        __name__,
    )
    assert greet.__doc__ == "Greet somebody."
    assert greet.__annotations__ == original.__annotations__
    signature = "(name: 'str', /, greeting: 'str' = 'hello', *, times: 'int' = 1) -> 'str'"
    assert str(inspect.signature(greet)) == signature
    assert inspect.iscoroutinefunction(greet)
    assert asyncio.iscoroutinefunction(greet)


async def test_a_wrapped_function_is_called_as_before():
    """Whatever its parameters are called."""

    @policy
    async def names(fn: int, run: int, self: int, policy: int) -> list[int]:
        return [fn, run, self, policy]

    assert await greet("you", "hi", times=2) == "hi you hi you"
    assert await names(fn=1, run=2, self=3, policy=4) == [1, 2, 3, 4]


async def test_the_policy_holds_for_each_call():
    """Retries and limits."""
    operation = scripted(ConnectionError, then=takes(1, "done"))
    wrapped: Any = policy.wrap(operation)

    assert await asyncio.gather(*(wrapped() for _ in range(9))) == ["done"] * 9
    assert operation.most_in_flight == 5


async def test_a_wrong_argument_is_pythons_own_error():
    """And is not tried again."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'tims'"):
        await greet("you", tims=2)  # type: ignore[call-arg]


async def test_a_plain_function_becomes_a_coroutine_function():
    """It runs in a worker thread."""
    assert inspect.iscoroutinefunction(greet_slowly)
    assert str(inspect.signature(greet_slowly)) == "(name: 'str') -> 'tuple[str, bool]'"
    assert await greet_slowly("you") == ("hello you", False)


async def test_a_wrapped_function_can_be_wrapped_again():
    """The outer policy stands outside."""
    twice = Policy("outer").with_timeout(5)(greet)

    assert await twice("you") == "hello you"
    assert twice.__name__ == "greet"


def test_a_wrapped_function_can_be_pickled_by_its_name():
    """As any function of a module: worker processes need it."""
    assert pickle.loads(pickle.dumps(greet)) is greet


def test_labels_that_others_put_on_a_function_are_kept():
    """Frameworks look for them."""

    async def marked() -> None:
        """Do nothing."""

    marked.route = "/search"  # type: ignore[attr-defined]

    assert policy.wrap(marked).route == "/search"  # type: ignore[attr-defined]


# --- methods ----------------------------------------------------------------------------------


class Service:
    """Has methods of every kind, decorated in either order."""

    word = "service"

    def __init__(self, word: str) -> None:
        self.word = word

    @policy
    async def method(self, suffix: str = "") -> str:
        """Return the word."""
        return self.word + suffix

    @policy
    def blocking(self, suffix: str = "") -> str:
        """Return the word."""
        return self.word + suffix

    @policy  # type: ignore[arg-type]
    @staticmethod
    async def outside_static(suffix: str = "") -> str:
        """Return the suffix."""
        return suffix

    @staticmethod
    @policy
    async def inside_static(suffix: str = "") -> str:
        """Return the suffix."""
        return suffix

    @policy  # type: ignore[arg-type]
    @classmethod
    async def outside_class(cls, suffix: str = "") -> str:
        """Return the class's word."""
        return cls.word + suffix

    @classmethod
    @policy
    async def inside_class(cls, suffix: str = "") -> str:
        """Return the class's word."""
        return cls.word + suffix


METHODS = {
    "method": "mine!",
    "blocking": "mine!",
    "outside_static": "!",
    "inside_static": "!",
    "outside_class": "service!",
    "inside_class": "service!",
}


@pytest.mark.parametrize(("name", "result"), METHODS.items(), ids=METHODS)
async def test_methods_are_bound_as_before(name: str, result: str):
    """On the object; static and class methods on the class too."""
    method: Any = getattr(Service("mine"), name)

    assert await method("!") == await method(suffix="!") == result
    assert inspect.iscoroutinefunction(method)
    assert str(inspect.signature(method)) == "(suffix: 'str' = '') -> 'str'"
    assert method.__qualname__ == f"Service.{name}"
    if "static" in name or "class" in name:
        assert await getattr(Service, name)("!") == result


async def test_a_bound_method_can_be_wrapped_itself():
    """As the methods of an SDK's client are."""
    wrapped = policy.wrap(Service("mine").inside_static)
    bound = policy.wrap(Service("mine").method)

    assert await wrapped("a") == "a"
    assert await bound("!") == "mine!"
    assert str(inspect.signature(bound)) == "(suffix: 'str' = '') -> 'str'"


def test_an_abstract_method_stays_abstract():
    """The label is on the function."""
    from abc import ABC, abstractmethod  # noqa: PLC0415 - for this test alone

    class Base(ABC):
        @policy
        @abstractmethod
        async def method(self) -> None:
            """Do something."""

    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]


# --- what is no function ----------------------------------------------------------------------


class Client:
    """Can be called, and holds a key."""

    def __init__(self) -> None:
        self.api_key = "sk-secret"

    async def __call__(self, word: str) -> str:
        """Return the word."""
        return word


async def test_a_callable_object_gets_the_name_of_its_class():
    """Its attributes stay where they are: it may hold a key."""
    wrapped: Any = policy.wrap(Client())

    assert await wrapped("word") == "word"
    assert (wrapped.__name__, wrapped.__qualname__) == ("Client", "Client")
    assert str(inspect.signature(wrapped)) == "(word: 'str') -> 'str'"
    assert not hasattr(wrapped, "api_key")


async def test_a_partial_gets_the_name_of_its_function():
    """And a signature without what is given already."""
    partial = functools.partial(inspect.unwrap(greet), "you")
    wrapped: Any = policy.wrap(partial)

    assert wrapped.__wrapped__ is partial
    assert await wrapped(times=2) == "hello you hello you"
    assert (wrapped.__name__, wrapped.__doc__) == ("greet", "Greet somebody.")
    assert str(inspect.signature(wrapped)).startswith("(greeting: 'str' = 'hello', *, times")


@pytest.mark.parametrize(
    ("fn", "name", "signature"),
    [
        (len, "len", "(obj, /)"),
        (max, "max", "(*args: 'Any', **kwargs: 'Any') -> 'Any'"),
        (operator.itemgetter(0), "itemgetter", None),
    ],
)
async def test_a_built_in_is_wrapped_with_the_signature_that_it_has(
    fn: Any, name: str, signature: str | None
):
    """Or with one that takes anything, where it has none."""
    wrapped: Any = policy.wrap(fn)

    assert await wrapped([1]) == 1
    assert wrapped.__name__ == name
    assert signature in {None, str(inspect.signature(wrapped))}


def test_a_proxy_that_has_every_attribute_is_wrapped_by_the_name_of_its_class():
    """An XML-RPC method answers to ``__name__`` with another method."""
    with ServerProxy("http://127.0.0.1:9/") as proxy:
        wrapped = policy.wrap(proxy.search)

    assert wrapped.__name__ == "_Method"
    assert "*args" in str(inspect.signature(wrapped))


# --- what is refused --------------------------------------------------------------------------


async def numbers() -> AsyncIterator[int]:
    """Yield a number."""
    yield 1


class Numbers:
    """Makes async generators when it is called."""

    async def __call__(self) -> AsyncIterator[int]:
        """Make one."""
        yield 1


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (numbers, "numbers"),
        (functools.partial(numbers), "numbers"),
        (Numbers(), "Numbers"),
        (staticmethod(numbers), "numbers"),
    ],
    ids=["function", "partial", "object", "static method"],
)
def test_what_makes_an_async_iterator_is_refused(fn: Any, name: str):
    """The error points to the stream."""
    text = rf"policy 'wrapped': '{name}' makes an async iterator, .* async with policy\.stream"
    with pytest.raises(TypeError, match=text):
        policy.wrap(fn)


@pytest.mark.parametrize("fn", [5, None, "text", Client, property(len)], ids=lambda v: str(type(v)))
def test_what_is_no_function_is_refused(fn: Any):
    """A class above all: decorating it is a mistake."""
    with pytest.raises(TypeError, match="policy 'wrapped': wrap takes a function or method; got"):
        policy(fn)
