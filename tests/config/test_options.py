"""Every option of every stage can be written, and stands in the schema and on the page."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import yaml

from penstock.config import load_dict
from penstock.config.block import Block
from penstock.config.docstrings import described, summary
from penstock.config.forms.backoff import Stop, Wait
from penstock.config.forms.base import PlainForm, PythonObject, RuledForm
from penstock.config.forms.policies import PolicyName
from penstock.config.forms.scalars import Boolean, Name, Word
from penstock.config.reference import reference_page
from penstock.config.registry import SETTINGS, STAGES
from penstock.config.schema import policy_schema
from penstock.options import Choice, Count, Flag, Options, Rule

# Options that mean nothing, or are refused, without another one.
WITH = {
    "slow_after": {"slow_ratio": "20%"},
    "slow_ratio": {"slow_after": "3s"},
    "window_calls": {"failure_ratio": "20%"},
    "window_seconds": {"failure_ratio": "20%"},
    "minimum_calls": {"failure_ratio": "20%"},
    "burst": {"rate": "10/s"},
    "cost": {"rate": "10/s"},
    "max_wait": {"rate": "10/s"},
    "max_queue": {"limit": 3},
    "initial": {"max": "60s"},
    "fallback_on": {"value": 1},
}
FIELDS = [(key, name) for key, entry in STAGES.items() for name in entry.block.fields]
SHAPES = [(key, name) for key, block in Wait.inside.items() for name in block.fields]


def example_of(block: Block, name: str) -> dict[str, Any]:
    """Return a value of a block with one option written as its form's example says."""
    text = block.fields[name].example.replace("package.module:name", "builtins:repr")
    needed = {key: value for key, value in WITH.get(name, {}).items() if key in block.fields}
    required = {
        each: yaml.safe_load(block.fields[each].example) for each in block.required if each != name
    }
    return {**required, **needed, name: yaml.safe_load(text)}


@pytest.mark.parametrize(("key", "name"), FIELDS)
def test_yaml_takes_every_option_of_every_stage(key, name, monkeypatch: pytest.MonkeyPatch):
    """The example of each form is a value that its option takes."""
    monkeypatch.setenv("SEARCH_KEYS", "a,b")
    entry = STAGES[key]
    stage = {key: example_of(entry.block, name)}
    other = {"pipeline": [{"timeout": "1s"}]}

    policies = load_dict({"version": 1, "policies": {"p": {"pipeline": [stage]}, "other": other}})

    options = policies["p"].stages[0].options
    default = entry.block.fields[name].option.default
    assert type(options) is entry.block.options
    assert getattr(options, name) is not None
    assert getattr(options, name) is not default


@pytest.mark.parametrize(("key", "name"), SHAPES)
def test_yaml_takes_every_option_of_every_shape_of_back_off(key, name):
    """The same for what stands inside ``wait``."""
    block = Wait.inside[key]

    options, slips = STAGES["retry"].block.read({"wait": {key: example_of(block, name)}})

    assert slips == []
    assert type(options.wait) is block.options


def long_form(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the arm of a schema that is a mapping of options."""
    arms = schema.get("anyOf", [schema])
    return next(arm for arm in arms if "properties" in arm and "description" in arm)


@pytest.mark.parametrize("key", STAGES)
def test_the_schema_has_every_option_with_description_and_default(key):
    """An editor shows what the docstring says."""
    block = STAGES[key].block

    properties = long_form(policy_schema()["$defs"][key])["properties"]

    assert set(properties) == {field.name for field in dataclasses.fields(block.options)}
    assert all(each["description"] for each in properties.values())
    for name, form in block.fields.items():
        written = form.write(form.option.default)
        if isinstance(written, str | int | float | dict):
            assert properties[name]["default"] == written


@pytest.mark.parametrize("key", STAGES)
def test_the_page_has_every_option(key):
    """Each stage has a table with a row per option."""
    section = reference_page().partition(f"\n## `{key}`\n")[2].partition("\n## ")[0]

    for name in STAGES[key].block.fields:
        assert f"| `{name}` | " in section


@pytest.mark.parametrize(
    "block", [SETTINGS, *(e.block for e in STAGES.values()), *Wait.inside.values()]
)
def test_every_option_is_described_in_its_docstring(block):
    """A description that is missing there is missing everywhere."""
    docs = described(block.options)

    assert [name for name in block.fields if not docs.get(name)] == []
    assert summary(block.options)


@pytest.mark.parametrize("key", STAGES)
def test_defaults_are_written_as_they_are_read(key, monkeypatch: pytest.MonkeyPatch):
    """A default that is pasted from the page changes nothing."""
    monkeypatch.setenv("SEARCH_KEYS", "a,b")
    block = STAGES[key].block
    for name, form in block.fields.items():
        written = form.write(form.option.default)
        if written is None or isinstance(written, tuple) or name in block.required:
            continue

        options, slips = block.read({**example_of(block, name), name: written})

        assert slips == []
        assert getattr(options, name) == form.option.default


class _OddRule(Rule):
    allowed = "an odd number"

    def read(self, value: Any) -> Any:
        if value % 2 == 0:
            raise ValueError
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomOptions(Options):
    """Options of a stage that does not exist yet.

    Attributes:
        flag: A flag.
        odd: A number that is odd.
        word: A word.
        hook: A function.
        anything: Anything.
    """

    stage: ClassVar[str] = "custom"

    flag: Flag = False
    odd: Any = 1
    word: Any = "b"
    hook: Any = None
    anything: Any = None
    count: Count | None = None


def custom(**forms: Any) -> Block:
    """Return the block of a stage that does not exist yet."""
    return Block("custom", CustomOptions, forms=forms)


@pytest.mark.parametrize(("text", "value"), [(True, True), ("true", True), ("false", False)])
def test_a_flag_is_true_or_false(text, value):
    """Also as text, because that is what the environment has."""
    options, slips = custom().read({"flag": text})

    assert slips == []
    assert options.flag is value
    assert type(custom().fields["flag"]) is Boolean


def test_a_wrong_flag_is_refused():
    """``yes`` is a text, as YAML 1.2 has it."""
    _, (slip,) = custom().read({"flag": "yes"})

    assert slip.mistake.message == "'flag' must be true or false; got 'yes'"


def option_with(rule: Rule | None, name: str = "odd") -> Any:
    """Return an option that has a rule of the test's."""
    return dataclasses.replace(custom().fields[name].option, rule=rule)


def test_a_rule_without_a_form_of_its_own_reads_scalars_and_references():
    """A new stage works before anybody has thought of its YAML."""
    form = RuledForm(option_with(_OddRule()))

    assert form.checked("7") == 7
    assert form.words() == "an odd number"
    assert form.json() == {}
    with pytest.raises(ValueError, match="'odd' must be an odd number; got 4"):
        form.checked(4)


def test_a_choice_is_one_of_its_words():
    """With the nearest word, where there is one."""
    form = Word(option_with(Choice(("red", "green")), "word"))

    assert form.checked("red") == "red"
    assert form.json()["anyOf"][0] == {"enum": ["red", "green"]}
    with pytest.raises(ValueError, match="'word' must be one of red, green; got 'gren'") as caught:
        form.checked("gren")
    assert caught.value.hint == "did you mean 'green'?"


def test_forms_describe_themselves():
    """Every form has words for the page and a schema for editors."""
    for form in (Name, PlainForm, PythonObject, RuledForm, Boolean, Stop, Wait, PolicyName):
        made = form(option_with(None))

        assert made.words()
        assert isinstance(made.json(), dict)


@pytest.mark.parametrize("wait", [3.0, 0.25])
def test_a_wait_in_seconds_is_written_as_a_duration(wait):
    """A default that is no shape has a text of its own."""
    assert Wait(option_with(None)).write(wait) in {"3s", "250ms"}


def test_descriptions_end_where_the_section_ends():
    """What stands below the attributes belongs to nobody's description."""

    class Documented:
        """Have a field.

        Attributes:
            field: What it is,
                on two lines.

        More text: not a field.
        """

    assert described(Documented) == {"field": "What it is, on two lines."}


def test_a_null_is_refused_where_it_means_nothing():
    """It is taken where the option may be left out."""
    options, slips = custom().read({"count": None})
    _, (slip,) = custom().read({"flag": None})

    assert (options.count, slips) == (None, [])
    assert slip.mistake.message == "'flag' must be true or false; got null"
