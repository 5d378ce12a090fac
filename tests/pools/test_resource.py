from __future__ import annotations

import copy
import itertools
import logging
import math
import pickle
import pprint
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError, PolicyError
from penstock.pools.given import MOST_RESOURCES, resources_of
from penstock.pools.origins import origin_of
from penstock.pools.resource import Resource, harmless

SECRET = "the-secret-itself-4711"


def test_a_resource_holds_what_it_was_given() -> None:
    """Every field can be read back."""
    made = Resource("v", "a", 3, 2.5, ["https://x.org"], ["eu", "paid"], "account")

    assert (made.value, made.id, made.max_in_flight, made.weight) == ("v", "a", 3, 2.5)
    assert (made.origins, made.tags, made.group) == (("https://x.org",), ("eu", "paid"), "account")


def test_what_is_left_out_bounds_nothing() -> None:
    """A resource of a value alone has no id, no cap, no origins, no group and weight 1."""
    made = Resource("v")

    assert (made.id, made.max_in_flight, made.weight) == (None, None, 1)
    assert (made.origins, made.tags, made.group) == (None, (), None)


def test_any_value_can_be_a_resource() -> None:
    """The value is opaque: None, an empty text and an unhashable thing are taken as they are."""
    values: list[object] = [None, "", 0, [], {}, object()]

    assert all(Resource(value).value is value for value in values)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("id", "", "a text that is not empty; got an empty text"),
        ("id", "  ", "a text that is not empty"),
        ("id", 7, "a text that is not empty; got 7"),
        ("id", b"a", "a text that is not empty; got a value of type bytes"),
        ("max_in_flight", 0, "a whole number of at least 1; got 0"),
        ("max_in_flight", -1, "a whole number of at least 1"),
        ("max_in_flight", 1.5, "a whole number of at least 1; got 1.5"),
        ("max_in_flight", math.nan, "a whole number of at least 1; got nan"),
        ("max_in_flight", True, "a whole number of at least 1; got True"),
        ("max_in_flight", "3", "a whole number of at least 1; got a value of type str"),
        ("weight", 0, "a finite number from 1e-06 to 1e.06; got 0"),
        ("weight", -1.0, "a finite number from 1e-06 to 1e.06"),
        ("weight", math.inf, "a finite number from 1e-06 to 1e.06; got inf"),
        ("weight", math.nan, "a finite number from 1e-06 to 1e.06; got nan"),
        ("weight", True, "a finite number from 1e-06 to 1e.06; got True"),
        ("weight", None, "a finite number from 1e-06 to 1e.06; got None"),
        ("weight", "1", "a finite number from 1e-06 to 1e.06"),
        ("origins", "https://x.org", "a list of texts; got a value of type str"),
        ("origins", 3, "a list of texts; got 3"),
        ("tags", "eu", "a list of texts"),
        ("tags", None, "a list of texts; got None"),
        ("tags", ["eu", ""], "texts that are not empty; got an empty text"),
        ("tags", [3], "texts that are not empty; got 3"),
        ("group", "", "a text that is not empty"),
        ("group", 3, "a text that is not empty; got 3"),
    ],
)
def test_a_field_that_is_not_allowed_is_refused(field: str, value: Any, allowed: str) -> None:
    """The error names the field, what is allowed and, where that is harmless, the value."""
    with pytest.raises(ConfigError, match=f"^resource: '{field}' must be {allowed}"):
        Resource("v", **{field: value})


@pytest.mark.parametrize("field", ["id", "max_in_flight", "weight", "origins", "tags", "group"])
@pytest.mark.parametrize("shape", [SECRET.encode(), [SECRET], {SECRET: SECRET}, (SECRET, "")])
def test_no_error_shows_what_may_be_a_secret(field: str, shape: Any) -> None:
    """A key that was given as the wrong argument is not printed by the refusal."""
    told = ""

    try:
        Resource("v", **{field: shape})
    except ConfigError as error:
        told = str(error)

    assert SECRET not in told


def test_no_origin_at_all_is_refused() -> None:
    """An empty list would allow nothing; leaving it out allows everything."""
    with pytest.raises(ConfigError, match="'origins' must not be empty; leave it out"):
        Resource("v", origins=[])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("HTTPS://API.Example.COM", "https://api.example.com"),
        ("https://api.example.com:443", "https://api.example.com"),
        ("http://api.example.com:80", "http://api.example.com"),
        ("https://api.example.com:80", "https://api.example.com:80"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("wss://api.example.com:443", "wss://api.example.com"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
        ("https://xn--mnchen-3ya.de", "https://xn--mnchen-3ya.de"),
    ],
)
def test_an_origin_is_stored_in_one_spelling(written: str, meant: str) -> None:
    """Case and default ports make no difference; other ports do."""
    assert Resource("v", origins=[written]).origins == (meant,)


def test_an_origin_given_twice_is_kept_once() -> None:
    """Two spellings of one origin are one origin; the order stays."""
    origins = ["https://b.org:443", "https://a.org", "https://B.org"]

    assert Resource("v", origins=iter(origins)).origins == ("https://b.org", "https://a.org")


@pytest.mark.parametrize(
    "written",
    [
        "",
        "api.example.com",
        "//api.example.com",
        "https://",
        "https:api.example.com",
        "https://api.example.com/",
        "https://api.example.com/v1",
        "https://api.example.com?x=1",
        "https://api.example.com#x",
        f"https://user:{SECRET}@api.example.com",
        "https://api.example.com:port",
        "https://api.example.com:99999",
        "https://api example.com",
        " https://api.example.com",
        "https://api.exa\tmple.com",
        "https://good.com\\@evil.com",
        "https://münchen.de",
        "https://exa%6dple.com",
        "https://[::1",
        "https://*.example.com",
        7,
        None,
        b"https://api.example.com",
    ],
)
def test_what_is_no_origin_is_refused_without_being_shown(written: Any) -> None:
    """A path, a password, a wild card, or an unclear host: refused, by its place."""
    with pytest.raises(ConfigError, match="number 2 of 'origins' must be a text such as") as caught:
        Resource("v", origins=["https://fine.org", written])

    assert SECRET not in str(caught.value)


ONE = Resource(SECRET, "one", origins=["https://api.example.com", "http://localhost:8080"])


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com/v1/models?x=1#y",
        "HTTPS://API.EXAMPLE.COM:443/v1",
        "https://user:password@api.example.com/v1",
        "http://localhost:8080/x",
    ],
)
def test_the_value_is_handed_out_for_its_origins(url: str) -> None:
    """Path, query, case, user name and the default port make no difference."""
    assert ONE.is_for(url)
    assert ONE.value_for(url) == SECRET


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://api.example.com/v1", "http://api.example.com"),
        ("https://api.example.com:8443/v1", "https://api.example.com:8443"),
        ("https://evil.org/https://api.example.com", "https://evil.org"),
        ("https://api.example.com.evil.org", "https://api.example.com.evil.org"),
        ("https://api.example.com@evil.org/token", "https://evil.org"),
        ("https://sub.api.example.com", "https://sub.api.example.com"),
        ("http://localhost", "http://localhost"),
        ("https://api.example.com\\@evil.org/token", "a URL without a readable origin"),
        ("https://api.exam\nple.com/token", "a URL without a readable origin"),
        ("/token", "a URL without a readable origin"),
        ("https://api.example.com:x/token", "a URL without a readable origin"),
        ("", "a URL without a readable origin"),
    ],
)
def test_the_value_is_not_handed_out_for_another_origin(url: str, told: str) -> None:
    """The refusal names the id, the origin of the URL and the origins allowed."""
    with pytest.raises(PolicyError) as caught:
        ONE.value_for(url)

    assert not ONE.is_for(url)
    assert str(caught.value) == (
        f"resource 'one' must not be sent to {told}; "
        "it is for https://api.example.com, http://localhost:8080"
    )


def test_the_refusal_of_a_url_shows_its_origin_only() -> None:
    """User name, password, path, query and the value stay out of the message."""
    with pytest.raises(PolicyError) as caught:
        ONE.value_for("https://user:password@evil.org/path?query=1#part")

    message = str(caught.value)
    assert not any(w in message for w in ("user", "password", "path", "query", "part", SECRET))


def test_without_origins_the_value_goes_anywhere() -> None:
    """``origins=None`` bounds nothing, not even what is no URL."""
    free = Resource("v", "free")

    assert free.value_for("https://anywhere.org") == "v"
    assert free.is_for("no url")


def test_an_object_that_writes_itself_as_a_url_is_read() -> None:
    """The URL classes of HTTP clients have ``str``."""

    class Url:
        def __str__(self) -> str:
            return "https://api.example.com/v1"

    assert ONE.is_for(Url())


@given(st.text(alphabet="ahtps:/@\\?#.[]%\t 1é", max_size=40))
def test_reading_any_text_as_a_url_fails_softly(text: str) -> None:
    """Whatever the text, there is an origin that reads as itself, or none."""
    origin = origin_of(text)

    assert origin is None or origin_of(origin) == origin


def test_the_value_is_in_no_text_of_the_resource(caplog: pytest.LogCaptureFixture) -> None:
    """Repr, str, format, logging, pretty printing and containers of it show the id only."""
    made = Resource(SECRET, "one", tags=["t"], group="g")

    logging.getLogger("test").warning("%s %r", made, {"a": [made]})
    texts = [repr(made), str(made), f"{made}", f"{made!s:>40}", pprint.pformat([made]), caplog.text]

    assert repr(made) == "<Resource 'one'>"
    assert not any(SECRET in text for text in texts)
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize("name", ["value", "id", "weight", "max_in_flight", "origins", "tags"])
def test_a_field_cannot_be_changed(name: str) -> None:
    """Neither assignment nor ``del`` reach a field, and the error shows no value."""
    made = Resource(SECRET, "one")

    with pytest.raises(
        AttributeError, match=f"'{name}' of resource 'one' cannot be changed"
    ) as one:
        setattr(made, name, SECRET)
    with pytest.raises(AttributeError, match=f"'{name}' of resource 'one' cannot be deleted"):
        delattr(made, name)

    assert SECRET not in str(one.value)
    assert made.value == SECRET


def test_a_subclass_may_have_fields_of_its_own() -> None:
    """What is frozen are the fields of Resource; a subclass sets and deletes its own."""

    class Session(Resource[str]):
        pages = 0

    made = Session("v", "s")
    made.pages = 3
    del made.pages

    assert made.pages == 0
    assert repr(made) == "<Session 's'>"


def test_lists_given_are_not_shared() -> None:
    """A change of the list afterwards does not change the resource."""
    tags = ["a"]
    made = Resource("v", tags=tags)

    tags.append("b")

    assert made.tags == ("a",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_resource_is_not_pickled(protocol: int) -> None:
    """A pickle would write the value out; the error says what to send instead."""
    with pytest.raises(TypeError, match=r"'one' cannot be pickled.*send its id, or its '\.value'"):
        pickle.dumps({"r": Resource(SECRET, "one")}, protocol)


def test_a_copy_is_the_resource_itself() -> None:
    """A copied key has no quota of its own; ``asdict`` over options copies deeply."""

    @dataclass
    class Holder:
        resources: list[Resource[str]]

    made = Resource("v", "one")

    assert copy.copy(made) is made
    assert copy.deepcopy([made])[0] is made
    assert asdict(Holder([made]))["resources"][0] is made


def test_a_resource_equals_only_itself() -> None:
    """Two of one value are two resources, and both can be kept in a set."""
    assert Resource("v", "a") != Resource("v", "a")
    assert len({Resource("v", "a"), Resource("v", "a")}) == 2


def test_the_pool_names_a_resource_once() -> None:
    """The same name again changes nothing; another one is refused."""
    made = Resource("v")

    made.name("1")
    made.name("1")

    assert made.id == "1"
    with pytest.raises(ConfigError, match=r"resource '1' cannot be named .*: it has an id"):
        made.name("2")


def test_the_name_given_by_the_pool_is_checked() -> None:
    """An empty id is as wrong later as it is at once."""
    with pytest.raises(ConfigError, match="'id' must be a text that is not empty"):
        Resource("v").name("")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (-3, "-3"),
        pytest.param(10**5000, "a value of type int", id="huge"),
        ("", "an empty text"),
        ("sk-1", "a value of type str"),
        (["sk-1"], "a value of type list"),
    ],
)
def test_only_what_cannot_be_a_secret_is_shown(value: object, text: str) -> None:
    """Numbers, booleans and None are shown; of the rest the type."""
    assert harmless(value) == text


def ids_of(given: object) -> list[str | None]:
    """Return the ids that a pool of these has."""
    return [resource.id for resource in resources_of(given)]


def test_values_are_named_by_their_place() -> None:
    """The ids of plain values are 1, 2, 3: nothing of a key is in them."""
    found = resources_of(["x", "y", "z"])

    assert [(r.id, r.value) for r in found] == [("1", "x"), ("2", "y"), ("3", "z")]


def test_resources_and_values_can_be_mixed() -> None:
    """A Resource stays the object that it is and keeps its id; a bare one is named in place."""
    named, bare = Resource("y", "mine"), Resource("z")

    found = resources_of(("x", named, bare))

    assert ids_of(found) == ["1", "mine", "3"]
    assert found[1] is named
    assert found[2] is bare


def test_a_place_whose_number_is_taken_gets_the_next_free_one() -> None:
    """An id of the user's own that is a number does not clash with the numbering."""
    assert ids_of([Resource("x", "2"), "y", "z"]) == ["2", "3", "4"]


def test_a_resource_named_by_one_pool_can_go_into_another() -> None:
    """It keeps the id it was given first."""
    bare = Resource("x")
    resources_of(["w", bare])

    assert ids_of([bare, "y", "z"]) == ["2", "3", "4"]


def test_a_dict_names_values_and_resources() -> None:
    """Keys are ids; a Resource without an id takes its key."""
    found = resources_of({"a": "x", "b": Resource("y", "b"), "c": Resource("z", weight=2)})

    assert [(r.id, r.value) for r in found] == [("a", "x"), ("b", "y"), ("c", "z")]
    assert found[2].weight == 2


@pytest.mark.parametrize(
    "given", [iter(["x", "y"]), (v for v in "xy"), {"p": "x", "q": "y"}.values(), range(2)]
)
def test_whatever_can_be_read_in_order_is_read(given: object) -> None:
    """Iterators, generators and views are as good as a list."""
    assert ids_of(given) == ["1", "2"]


async def numbers() -> AsyncIterator[int]:
    """Something that cannot be read when a pool is built."""
    yield 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "must not be empty"),
        ({}, "must not be empty"),
        (iter(()), "must not be empty"),
        (SECRET, "got a value of type str; put it in a list"),
        (SECRET.encode(), "got a value of type bytes; put it in a list"),
        (Resource(SECRET, "one"), "got a value of type Resource; put it in a list"),
        (None, "by id; got None"),
        (3, "by id; got 3"),
        ({SECRET, "b"}, "type set; it has no order"),
        (frozenset({SECRET}), "type frozenset; it has no order"),
        (numbers(), "type async_generator; read it before the pool is built"),
        (itertools.repeat(SECRET), f"must be {MOST_RESOURCES} at most"),
        (range(MOST_RESOURCES + 1), f"must be {MOST_RESOURCES} at most"),
        ([SECRET, None], "number 2 of 'resources' is None; is a variable not set"),
        (["", SECRET], "number 1 of 'resources' is an empty text; is a variable not set"),
        ([SECRET, b" "], "number 2 of 'resources' is an empty text"),
        ({"a": SECRET, "b": None}, "the one of id 'b' of 'resources' is None"),
        ({"": SECRET}, "ids must be texts that are not empty; got an empty text"),
        ({" ": SECRET}, "ids must be texts that are not empty"),
        ({1: SECRET}, "ids must be texts that are not empty; got 1"),
        ({"a": Resource(SECRET, "b")}, "resource 'b' is listed under another id: 'a'"),
        ([Resource(SECRET, "a"), Resource("y", "a")], "two resources have the id 'a'"),
        ([ONE, "x", ONE], "two resources have the id 'one'"),
        (dict.fromkeys("ab", Resource(SECRET)), "resource 'a' is listed under another id: 'b'"),
    ],
)
def test_what_makes_no_pool_is_refused(given: object, why: str) -> None:
    """Empty, endless, unordered, doubled or no collection at all: one error, without a value."""
    with pytest.raises(ConfigError, match=why) as caught:
        resources_of(given)

    assert SECRET not in str(caught.value)


def test_a_bare_resource_given_twice_is_refused() -> None:
    """One object cannot stand at two places, whether it was named before or not."""
    bare = Resource("x")

    with pytest.raises(ConfigError, match="number 2 of 'resources' is number 1"):
        resources_of([bare, bare])
