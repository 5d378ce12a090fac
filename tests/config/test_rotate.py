"""Rotation in a policy file: where resources come from, and what no message may show."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from penstock import Policy
from penstock.config import Checked, ConfigFileError, check, load, load_dict, report
from penstock.config.schema import policy_schema
from penstock.pool import Pool
from penstock.pools.picking.base import Picker
from penstock.pools.resource import Resource

SECRET = "the-secret-itself-4711"

Check = Callable[..., Checked]


class MyPicker(Picker):
    """A picker of the user's."""

    def pick(self, key: str | None, now: float) -> None: ...


def account(resource: Resource[Any]) -> str:
    """Name the account of a resource."""
    return resource.id or ""


class Later:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Iterator[None]:
        yield


async def waits() -> list[str]:
    """Answer too late."""
    return [SECRET]


async def endless() -> AsyncIterator[str]:
    """Answer one by one, too late."""
    yield SECRET


def fails() -> list[str]:
    """Fail, and say too much."""
    raise RuntimeError(SECRET)


def fails_later() -> Iterator[str]:
    """Fail half way, and say too much."""
    yield "a"
    raise RuntimeError(SECRET)


def numbered() -> Iterator[str]:
    """Make resources one by one."""
    yield from ("x", "y")


HELD = {
    "keys": ["x", "y"],
    "by_id": {"a": "x", "b": Resource("y"), "c": Resource("z", weight=2)},
    "mixed": ("x", Resource("y", "b")),
    "one": Resource("x", "one"),
    "text": "x",
    "nothing": None,
    "blank": " ",
    "holes": ["x", None],
    "empty": [],
    "wrong_id": {1: SECRET},
    "make_list": lambda: ["x", "y"],
    "make_part": partial(list, "xy"),
    "make_one": numbered,
    "make_pool": lambda: Pool(["x", "y"], pick="random"),
    "make_none": lambda: None,
    "needs": lambda wanted: wanted,
    "client": type("Client", (), {"__call__": fails})(),
    "pool": Pool(["x", "y"]),
    "unordered": {SECRET, "x"},
    "waits": waits,
    "later": partial(Later),
    "endless": endless,
    "fails": fails,
    "fails_later": fails_later,
    "account": account,
    "picker": MyPicker(),
    "hook": print,
}


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put what the files of these tests name where they name it."""
    module = types.ModuleType("held")
    vars(module).update(HELD)
    monkeypatch.setitem(sys.modules, "held", module)
    for name, value in {"ONE": "k1", "TWO": " k2 ", "LIST": "k1, k2,,k3 ,", "BLANK": " , "}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv("KEY_B", "kb")
    monkeypatch.setenv("KEY_A", "ka ")
    monkeypatch.setenv("KEY_", "nobody's")
    monkeypatch.setenv("HOLE_A", "x")
    monkeypatch.setenv("HOLE_B", "")


@pytest.fixture
def options(check_stages: Check) -> Callable[[str], Any]:
    """Return the options that a stage is built from."""

    def build(text: str) -> Any:
        checked = check_stages(text)
        assert checked.problems == ()
        return checked.policies["p"].stages[0].options

    return build


@pytest.fixture
def rotated(options: Callable[[str], Any]) -> Callable[[str], dict[str | None, Any]]:
    """Return id and value of each resource that a text stands for."""

    def build(text: str) -> dict[str | None, Any]:
        made = options(f"- rotate: {{resources: {text}}}").resources
        return {resource.id: resource.value for resource in made}

    return build


FOUND: dict[str, dict[str, Any]] = {
    "{env: ONE}": {"1": "k1"},
    "{env: TWO}": {"1": "k2"},
    "{env: LIST}": {"1": "k1, k2,,k3 ,"},
    '{env: LIST, split: ","}': {"1": "k1", "2": "k2", "3": "k3"},
    "{env: ONE, id: mine}": {"mine": "k1"},
    "{env_prefix: KEY_}": {"a": "ka", "b": "kb"},
    "[{env: ONE}, {env: TWO}]": {"1": "k1", "2": "k2"},
    '[{env: ONE, id: a}, {env: LIST, split: ","}]': {"a": "k1", "2": "k1", "3": "k2", "4": "k3"},
    "[{env: ONE, id: x}, {env_prefix: KEY_}]": {"x": "k1", "a": "ka", "b": "kb"},
    "[gpu-0, gpu-1]": {"1": "gpu-0", "2": "gpu-1"},
    "[0, 1]": {"1": 0, "2": 1},
    "[{value: gpu-0, id: a, max_in_flight: 1}]": {"a": "gpu-0"},
    "{value: gpu-0}": {"1": "gpu-0"},
    "['http://proxy:8080', 'http://10.0.0.3:3128/']": {
        "1": "http://proxy:8080",
        "2": "http://10.0.0.3:3128/",
    },
    "[worker_12, eu-west-1, node3.example.com:80]": {
        "1": "worker_12",
        "2": "eu-west-1",
        "3": "node3.example.com:80",
    },
    "['${ONE}', '${SECRET_KEY}', '${NONE:-gpu-7}']": {"1": "k1", "2": SECRET, "3": "gpu-7"},
    "{python: 'held:keys'}": {"1": "x", "2": "y"},
    "{python: 'held:by_id'}": {"a": "x", "b": "y", "c": "z"},
    "{python: 'held:mixed'}": {"1": "x", "b": "y"},
    "{python: 'held:one'}": {"one": "x"},
    "{python: 'held:text'}": {"1": "x"},
    "{python: 'held:make_list'}": {"1": "x", "2": "y"},
    "{python: 'held:make_part'}": {"1": "x", "2": "y"},
    "{python: 'held:make_one'}": {"1": "x", "2": "y"},
    "[{python: 'held:keys'}, {python: 'held:text', id: t}]": {"1": "x", "2": "y", "t": "x"},
    "{python: 'held:keys', id: both}": {"both": ["x", "y"]},
    "{python: 'held:client'}": {"1": HELD["client"]},
}


@pytest.mark.parametrize(("text", "expected"), FOUND.items())
def test_resources_are_found_where_the_file_says(rotated, text, expected) -> None:
    """The environment, Python and plain names, alone or in a list; ids by place or as named."""
    assert list(rotated(text).items()) == list(expected.items())


SHORT = ["[gpu-0, gpu-1]", '{env: LIST, split: ","}', "{env: ONE}", "{env: ONE, group: account}"]


@pytest.mark.parametrize("short", SHORT)
def test_the_short_form_is_the_resources(options, short) -> None:
    """What is no mapping of options, or says where resources come from, is ``resources``."""
    assert options(f"- rotate: {short}").resources


def test_settings_of_a_source_hold_for_each_of_its_resources(options) -> None:
    """A cap beside a variable of three keys is the cap of each of the three."""
    made = options(
        """
        - rotate:
            - env: LIST
              split: ","
              max_in_flight: 2
              weight: 0.5
              origins: ["https://API.example.com:443"]
              tags: [paid, eu]
              group: account
            - {env_prefix: KEY_, weight: 3}
            - {python: "held:keys", tags: [x]}
            - {python: "held:text", id: t, max_in_flight: 7}
        """
    ).resources

    for one in made[:3]:
        assert (one.max_in_flight, one.weight, one.group) == (2, 0.5, "account")
        assert (one.origins, one.tags) == (("https://api.example.com",), ("paid", "eu"))
    assert [one.weight for one in made[3:5]] == [3, 3]
    assert [one.tags for one in made[5:7]] == [("x",), ("x",)]
    assert (made[7].id, made[7].max_in_flight) == ("t", 7)


def test_resources_of_python_keep_what_they_bring(options) -> None:
    """A Resource that a module holds is the one that is used."""
    made = options("- rotate: {python: 'held:by_id'}").resources

    assert made[2] is HELD["by_id"]["c"]


@pytest.mark.parametrize("name", ["pool", "make_pool"])
def test_a_pool_of_python_is_used_as_it_is(options, name) -> None:
    """It brings its resources and its options."""
    found = options(f"- rotate: {{resources: {{python: 'held:{name}'}}, max_wait: 3s}}")

    assert isinstance(found.resources, Pool)
    assert found.max_wait == 3


def test_every_option_of_a_pool_can_be_written(options) -> None:
    """Durations have units, words are words, functions are named."""
    found = options(
        """
        - rotate:
            resources: {env: ONE}
            name: keys
            cooldown: [30s, 2m, 5m, 0]
            max_wait: 10s
            dimension: model
            pick: most_remaining
            inject: api_key
            min_ready: 0
            cancel_younger: false
            on_state_change: {python: "held:hook"}
            group: {python: "held:account"}
        """
    )

    assert (found.name, found.cooldown, found.max_wait) == ("keys", (30, 120, 300, 0), 10)
    assert (found.dimension, found.pick, found.inject) == ("model", "most_remaining", "api_key")
    assert (found.min_ready, found.cancel_younger) == (0, False)
    assert (found.on_state_change, found.group) == (print, account)


def test_one_duration_is_a_whole_table(options) -> None:
    """``cooldown: 1m`` rests for a minute each time."""
    assert options("- rotate: {resources: [a], cooldown: 1m}").cooldown == (60,)


def test_pick_and_dimension_can_be_pythons(options) -> None:
    """A picker and a function of the call are named by reference."""
    found = options(
        """
        - rotate:
            resources: [a]
            pick: {python: "held:picker"}
            dimension: {python: "held:account"}
        """
    )

    assert (found.pick, found.dimension) == (HELD["picker"], account)


def test_null_injects_nothing(options) -> None:
    """The operation asks for the resource itself."""
    assert options("- rotate: {resources: [a], inject: null}").inject is None


def write(folder: Path, resources: str, **files: str | bytes) -> Path:
    """Write a policy file and files of keys beside it."""
    for name, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        (folder / f"{name}.txt").write_bytes(raw)
    path = folder / "policies.yaml"
    stage = f"      - rotate: {{resources: {resources}}}\n"
    path.write_text(f"version: 1\npolicies:\n  p:\n    pipeline:\n{stage}")
    return path


@pytest.mark.parametrize(
    ("entry", "content", "expected"),
    [
        ("{file: keys.txt}", "k1\n\n  # old: k0\r\n k2 \n", {"1": "k1", "2": "k2"}),
        ("{file: keys.txt}", "\ufeffk1", {"1": "k1"}),
        ("{file: ./keys.txt, split: ' '}", "k1 k2\n# k0\nk3", {"1": "k1", "2": "k2", "3": "k3"}),
        ("{file: keys.txt, id: pem}", "-begin-\n#x\n-end-\n", {"pem": "-begin-\n#x\n-end-"}),
    ],
)
def test_a_file_of_keys_is_read(tmp_path, entry, content, expected) -> None:
    """A key on each line, or one value as a whole; the path begins where the policy file stands."""
    path = write(tmp_path, entry, keys=content)

    made = load(path)["p"].stages[0].options.resources

    assert {one.id: one.value for one in made} == expected


def test_an_absolute_path_is_taken_as_it_is(tmp_path, rotated) -> None:
    """Secrets are often mounted at a place of their own."""
    path = tmp_path / "key"
    path.write_text("k1\n")

    assert rotated(f"{{file: {json.dumps(str(path))}}}") == {"1": "k1"}


def test_without_a_policy_file_paths_begin_in_the_working_directory(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data has no folder of its own."""
    (tmp_path / "keys.txt").write_text("k1")
    monkeypatch.chdir(tmp_path)
    stage = {"rotate": {"resources": {"file": "keys.txt"}}}

    policy = Policy.from_dict({"version": 1, "policies": {"p": {"pipeline": [stage]}}})

    assert policy.stages[0].options.resources[0].value == "k1"


@pytest.mark.parametrize(
    ("entry", "content", "said"),
    [
        ("{file: nope.txt}", "", "there is no file 'nope.txt'"),
        ("{file: .}", "", "there is no file '.'"),
        ("{file: keys.txt}", "\n# only\n", "there is no value in 'keys.txt'"),
        ("{file: keys.txt, id: a}", " \n", "there is no value in 'keys.txt'"),
        ("{file: keys.txt}", b"\xff" + SECRET.encode(), "'keys.txt' is not UTF-8"),
        ("{file: keys.txt}", SECRET * 10_000, "'keys.txt' holds more than 128 KiB"),
        ('{file: "a\\0b"}', "", "there is no file"),
        ("{file: keys.txt/x}", "k", "there is no file 'keys.txt/x'"),
        ("{file: '${SECRET_KEY}'}", "", "there is no file the value of '${SECRET_KEY}'"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported(tmp_path, entry, content, said) -> None:
    """Nothing there, no value in it, too large, not text: said at the key, without a value."""
    path = write(tmp_path, entry, keys=content)

    (problem,) = check(path).problems

    assert problem.message.startswith(said)
    assert (problem.line, problem.column) == (5, 30)
    assert SECRET not in report([problem], "f")


def test_a_file_that_may_not_be_read_is_reported(tmp_path) -> None:
    """What the system says is passed on, without an address of the value."""
    path = write(tmp_path, "{file: " + "x" * 300 + "}")

    (problem,) = check(path).problems

    assert "cannot read" in problem.message or "there is no file" in problem.message


SAID = {
    "{env: NONE}": "environment variable 'NONE' is not set",
    "{env: BLANK, split: ','}": "environment variable 'BLANK' is empty",
    "{env: '${SECRET_KEY}'}": "'env' must be the name of an environment variable, without ${}; "
    "got the value of '${SECRET_KEY}'",
    "{env: a-b}": "'env' must be the name of an environment variable, without ${}",
    "{env: 3}": "'env' must be the name of an environment variable, without ${}; got 3",
    "{env_prefix: NONE_}": "no environment variable begins with 'NONE_'",
    "{env_prefix: HOLE_}": "environment variable 'HOLE_B' is empty",
    "{env_prefix: ''}": "'env_prefix' must be the name of an environment variable, without ${}",
    "{env: ONE, file: x}": "a resource cannot be both 'env' and 'file' | "
    "write one of env, env_prefix, file, python, value",
    "{weight: 2}": "a resource needs a source | write one of env, env_prefix, file, python, value",
    "[{}]": "a resource needs a source | write one of env, env_prefix, file, python, value",
    "{env: ONE, split: ''}": "'split' must be a text that is not empty; got ''",
    "{python: 'held:keys', split: ','}": "'split' goes with 'env' or 'file'",
    "{env: LIST, split: ',', id: a}": "'id' names one resource, and these may be several",
    "{env_prefix: KEY_, id: a}": "'id' names one resource, and these may be several",
    "{evn: ONE}": "unknown key 'evn' in 'resources' | did you mean 'env'?",
    "[gpu-0, {env: ONE, wieght: 3}]": "unknown key 'wieght' in 'resources' | "
    "did you mean 'weight'?",
    "{env: ONE, weight: 0}": "'weight' must be a finite number from 1e-06 to 1e+06; got 0",
    "{env: ONE, max_in_flight: 0}": "'max_in_flight' must be a whole number of at least 1; got 0",
    "{env: ONE, tags: eu}": "'tags' must be a list of texts that are not empty; got 'eu' | "
    "write it in brackets",
    "{env: ONE, tags: [eu, '']}": "'tags' must be a list of texts that are not empty; got ''",
    "{env: ONE, tags: []}": "'tags' must not be empty",
    "{env: ONE, origins: 3}": "'origins' must be a list of origins such as "
    "https://api.example.com, without path; got 3",
    "{env: ONE, origins: ['https://u:hidden@x.org']}": "an origin must be a text such as "
    '"https://api.example.com" or "http://localhost:8080", without path',
    "[]": "'resources' must not be empty",
    "[null]": "expected a resource; got null | write {env: NAME} and set NAME in the environment",
    "[true]": "expected a resource; got true | write {env: NAME} and set NAME in the environment",
    "[[a]]": "expected a resource; got a list | write {env: NAME} and set NAME in the environment",
    "['']": "a resource must not be empty; got '' | "
    "write {env: NAME} and set NAME in the environment",
    "['${HOLE_B:-}']": "a resource must not be empty; got the value of '${HOLE_B:-}' | "
    "write {env: NAME} and set NAME in the environment",
    "[{env: ONE, id: a}, {env: TWO, id: a}]": "two resources have the id 'a'",
    "[{env: ONE, id: a}, {env_prefix: KEY_}]": "two resources have the id 'a'",
    "{python: 'held:none'}": "'held' has no 'none' | did you mean 'one'?",
    "{python: 'held:nothing'}": "'held:nothing' is None",
    "{python: 3}": 'expected something of Python\'s; got 3 | write {python: "package.module:name"}',
    "{python: 'held:blank'}": "'python' names a resource that is an empty text",
    "{python: 'held:holes'}": "'python' names a resource that is None",
    "{python: 'held:empty'}": "'resources' must not be empty",
    "{python: 'held:make_none'}": "'python' names a resource that is None",
    "{python: 'held:wrong_id'}": "'id' must be a text that is not empty; got 1",
    "{python: 'held:waits'}": "the function that 'python' names must not be async",
    "{python: 'held:endless'}": "the function that 'python' names must not be async",
    "{python: 'held:later'}": "the function that 'python' names must not be async",
    "{python: 'held:unordered'}": "'python' names a set, which has no order; "
    "resources are named by their place",
    "{python: 'held:fails'}": "the function that 'python' names raised RuntimeError",
    "{python: 'held:fails_later'}": "the function that 'python' names raised RuntimeError",
    "{python: 'held:needs'}": "the function that 'python' names raised TypeError",
    "{python: 'held:one', weight: 2}": "what 'python' names brings its own settings; "
    "leave those beside it out",
    "{python: 'held:one', id: two}": "what 'python' names brings its own settings; "
    "leave those beside it out",
    "{python: 'held:pool', weight: 2}": "what 'python' names brings its own settings; "
    "leave those beside it out",
    "[gpu-0, {python: 'held:pool'}]": "a pool stands alone: it has all its resources",
    "keys": "'resources' must be a source such as {env: SEARCH_KEYS, split: \",\"} "
    "(env, env_prefix, file, python, value), or a list of sources and of plain names such as "
    "gpu-0; got 'keys' | write it as {env: NAME, split: \",\"}",
}


@pytest.mark.parametrize(("text", "said"), SAID.items())
def test_a_wrong_source_is_said_to_be_wrong(complaints, text, said) -> None:
    """Each mistake has one message, which names the variable or the key."""
    assert complaints(f"- rotate: {{resources: {text}}}") == [said]


@pytest.mark.parametrize("value", ["'${SECRET_KEY}'", "3", "null"])
def test_what_is_no_list_of_resources_is_refused(check_stages, value) -> None:
    """A text out of the environment is one text, and is not shown."""
    (problem,) = check_stages(f"- rotate: {{resources: {value}}}").problems

    assert problem.message.startswith("'resources' must be a source such as")
    assert SECRET not in report([problem], "f")


LITERALS = [
    SECRET,
    "a8f3b9c2d1e0f7a6b5c4",
    "http://user:password@proxy:8080",
    "http://proxy:8080/?token=abc",
    "Zm9vYmFyYmF6cXV4Zm9vYmFy",
    "0123456789abcdef",
    "x" * 30,
    "123456789",
]


@pytest.mark.parametrize("written", LITERALS[1:])
@pytest.mark.parametrize("shape", ["[gpu-0, {}]", "{{value: {}}}"])
def test_a_literal_that_may_be_a_key_is_refused_unseen(check_stages, written, shape) -> None:
    """Neither the message nor the line of the file is shown."""
    text = shape.format(f"'{written}'")

    problems = check_stages(f"- rotate: {{resources: {text}, weight: 2}}").problems

    assert problems[0].message == "this may be a key, which has no place here"
    assert len(problems) == 2
    assert written not in report(problems, "f")
    assert written not in repr(problems)


def test_an_origin_with_a_password_is_refused_unseen(check_stages) -> None:
    """The line of the file that has it is not shown either."""
    text = "- rotate: {env: ONE, origins: ['https://user:password@x.org'], weight: 0}"

    problems = check_stages(text).problems

    assert len(problems) == 2
    assert "password" not in report(problems, "f")


def test_a_key_in_the_place_of_a_variables_name_is_refused_unseen(check_stages) -> None:
    """``env`` takes the name; whoever pastes the key there does not find it in the report."""
    problems = check_stages("- rotate: {env: the/key=4711}").problems

    assert len(problems) == 1
    assert "4711" not in report(problems, "f")


def test_a_literal_that_looks_like_a_vendors_key_is_refused(complaints) -> None:
    """The rule of the whole file holds here too."""
    said = "this looks like a key, which has no place here | "
    said += "write ${NAME} and set NAME in the environment"

    assert complaints("- rotate: [sk-abcdefghijkl]") == [said]


@pytest.mark.parametrize("written", LITERALS)
def test_allow_literal_lets_literals_through(written) -> None:
    """Whoever says so at the top of the file may write anything."""
    data = {
        "version": 1,
        "allow_literal": True,
        "policies": {"p": {"pipeline": [{"rotate": [written, {"value": written}]}]}},
    }

    made = load_dict(data)["p"].stages[0].options.resources

    assert [one.value for one in made] == [written, written]


def test_data_may_hold_resources_and_pools_of_python() -> None:
    """What YAML names, a dict holds."""
    one, pool = Resource(SECRET, "one"), Pool(["x"])
    data: dict[str, Any] = {
        "version": 1,
        "policies": {
            "list": {"pipeline": [{"rotate": {"resources": [one, object(), "gpu-0"]}}]},
            "pool": {"pipeline": [{"rotate": {"resources": pool}}]},
            "listed": {"pipeline": [{"rotate": [pool]}]},
        },
    }

    made = load_dict(data)

    assert made["list"].stages[0].options.resources[0] is one
    assert [r.id for r in made["list"].stages[0].options.resources] == ["one", "2", "3"]
    assert made["pool"].stages[0].options.resources is pool
    assert made["listed"].stages[0].options.resources is pool


def test_a_lone_resource_in_data_is_refused_without_its_value() -> None:
    """It belongs into a list."""
    stage = {"rotate": {"resources": Resource(SECRET, "one")}}

    with pytest.raises(ConfigFileError, match="'resources' must be") as caught:
        load_dict({"version": 1, "policies": {"p": {"pipeline": [stage]}}})

    assert SECRET not in str(caught.value)


OPTIONS = {
    "cooldown: 30": "a duration needs a unit | write 30s if you mean seconds",
    "cooldown: [30s, fast]": "expected a duration such as '30s'; got 'fast'",
    "cooldown: []": "'cooldown' must not be empty",
    "pick: most_remaning": "'pick' must be one of least_in_flight, round_robin, least_total, "
    "random, primary_backup, weighted, sticky, p2c_ewma, most_remaining, or a reference to a "
    "picker; got 'most_remaning' | did you mean 'most_remaining'?",
    "pick: {python: 'held:keys'}": "'pick' must be one of least_in_flight, round_robin, "
    "least_total, random, primary_backup, weighted, sticky, p2c_ewma, most_remaining, or a "
    "reference to a picker; got a mapping",
    "dimension: my model": "'dimension' must be the name of a keyword argument, or a reference to "
    "a function of the call; got 'my model'",
    "dimension: {python: 'held:waits'}": "'dimension' must be the name of a keyword argument, or "
    "a reference to a function of the call; got a mapping",
    "inject: class": "'inject' must be first, the name of a keyword argument, or null; got 'class'",
    "group: accounts": "expected something of Python's; got 'accounts' | "
    'write {python: "package.module:name"}',
    "cooldwon: 3s": "unknown key 'cooldwon' in 'rotate' | did you mean 'cooldown'?",
}


@pytest.mark.parametrize(("text", "said"), OPTIONS.items())
def test_a_wrong_option_is_said_to_be_wrong(complaints, text, said) -> None:
    """In the words of a file, with what was probably meant."""
    assert complaints(f"- rotate: {{resources: [a], {text}}}") == [said]


def test_resources_are_needed(complaints) -> None:
    """A rotation without any is told how to write them."""
    said = "'rotate' needs 'resources' | "
    said += "for example 'resources: {env: SEARCH_KEYS, split: \",\"}'"

    assert complaints("- rotate: {pick: random}") == [said]


def test_options_of_a_pool_beside_a_pool_are_refused(complaints) -> None:
    """The pool of Python's brings its own."""
    (said,) = complaints("- rotate: {resources: {python: 'held:pool'}, pick: random}")

    assert said.startswith("'pick' must be left out: the pool brings its own")


def test_every_mistake_is_reported_at_its_place(check_stages) -> None:
    """Several sources, several mistakes: each with line and column."""
    checked = check_stages(
        """
        - rotate:
            resources:
              - {env: NONE}
              - id: b
                python: held:nope
              - {env: ONE, origins: ["https://x.org", "x.org"]}
            cooldown: [3s, 4]
        """
    )

    places = [(problem.line, problem.column) for problem in checked.problems]
    assert places == [(7, 16), (9, 23), (10, 53), (11, 26)]


@pytest.mark.parametrize(
    "text",
    [
        '{resources: {env: LIST, split: ","}, cooldown: [30s, 2m], pick: most_remaining}',
        "[gpu-0, 1, {env: ONE, id: a, max_in_flight: 2, weight: 2, origins: ['https://x.org']}]",
        "{env_prefix: KEY_}",
        "{resources: {python: 'held:keys'}, inject: null, dimension: model, cooldown: 0}",
        "{resources: [{file: keys.txt, tags: [a], group: g}], pick: {python: 'held:picker'}}",
        "{resources: [{value: 3}], group: {python: 'held:account'}, max_queue: 3}",
    ],
)
def test_the_schema_takes_what_the_reader_takes(check_stages, text, tmp_path, monkeypatch) -> None:
    """An editor marks nothing that can be loaded."""
    (tmp_path / "keys.txt").write_text("k1")
    monkeypatch.chdir(tmp_path)
    data = {"version": 1, "policies": {"p": {"pipeline": [{"rotate": yaml.safe_load(text)}]}}}

    assert check_stages(f"- rotate: {text}").problems == ()
    assert list(Draft202012Validator(policy_schema()).iter_errors(data)) == []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{pick: random}",
        "{resources: []}",
        "{resources: [{weight: 2}]}",
        "{resources: {env: A, file: b}}",
        "{resources: [a], cooldown: []}",
        "{resources: [a], cooldown: 30}",
        "{resources: [a], pick: fastest}",
        "{resources: [{env: A, max_in_flight: 0}]}",
    ],
)
def test_the_schema_marks_what_is_plainly_wrong(text) -> None:
    """An editor tells before the file is loaded."""
    data = {"version": 1, "policies": {"p": {"pipeline": [{"rotate": yaml.safe_load(text)}]}}}

    assert list(Draft202012Validator(policy_schema()).iter_errors(data))


def test_the_schema_describes_a_source_once() -> None:
    """The short form, the long form and each list share one definition."""
    text = json.dumps(policy_schema())

    assert text.count("Every environment variable whose name begins so") == 1
