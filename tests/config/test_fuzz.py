"""Whatever a file holds, reading it ends in policies or in problems."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.config import Checked, ConfigFileError, check_text, load_dict, report
from penstock.config.forms.backoff import Wait
from penstock.config.problems import Mistake
from penstock.config.registry import OTHER_WORDS, STAGES

SECONDS = 2.0

PIECES = st.sampled_from(
    [
        *STAGES,
        *OTHER_WORDS,
        *Wait.inside,
        *(name for entry in STAGES.values() for name in entry.block.fields),
        *("version: 1\n", "policies:", "pipeline:", "shared:", "\n", "\n  ", "\n      - ", "- "),
        *(
            "{",
            "}",
            "[",
            "]",
            ": ",
            ", ",
            "&a ",
            "*a ",
            "<<: ",
            "!!python/name:os ",
            "? ",
            "| ",
            ">",
        ),
        *("30s", "10/s", "50%", "0", "1e400", ".nan", "true", "null", "'", '"', "${X:-3}", "$"),
        *(
            "\\U",
            "\t",
            "#",
            "---",
            "...",
            "%YAML 1.2\n",
            "\x85",
            "\u2028",
            "\ufeff",
            "\x00",
            "é",
            "🦆",
        ),
    ]
)
WORDS = st.sampled_from(
    [
        *STAGES,
        *OTHER_WORDS,
        *Wait.inside,
        *(name for entry in STAGES.values() for name in entry.block.fields),
        *(
            "python",
            "shared",
            "pipeline",
            "classify",
            "version",
            "policies",
            "",
            "p",
            "30s",
            "10/s",
        ),
        *(
            "os:getcwd",
            "os:sep",
            "timeout",
            "KeyError",
            "a.b",
            "50%",
            "3",
            "${X}",
            "$${",
            "${X:-1s}",
        ),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def is_sound(checked: Checked) -> bool:
    """Answer whether there are policies or errors, and a report that can be printed."""
    text = report(checked.problems, "f")
    text.encode()
    errors = [each for each in checked.problems if each.level.value == "error"]
    return bool(checked.policies) != bool(errors)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_report(raw):
    """Nothing but problems comes out of noise."""
    assert is_sound(check_text(raw))


@given(st.lists(PIECES, max_size=60).map("".join))
@settings(max_examples=300)
def test_any_yaml_like_text_ends_in_a_report_soon(text):
    """Pieces of the grammar in any order reach further in than noise does."""
    began = time.process_time()

    assert is_sound(check_text(text.encode()))
    assert time.process_time() - began < SECONDS


@given(st.lists(st.dictionaries(WORDS, DATA, max_size=2) | DATA, max_size=4))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_any_pipeline_ends_in_policies_or_problems(pipeline):
    """Every stage is asked for every shape of value."""
    data: dict[str, Any] = {
        "version": 1,
        "policies": {"p": {"pipeline": pipeline}, "q": {"pipeline": []}},
    }

    try:
        policies = load_dict(data)
    except ConfigFileError as refused:
        said = (refused.problems, str(refused).encode())
        assert all(said)
    else:
        assert list(policies) == ["p", "q"]


# The word is what json writes for a number that YAML spells otherwise.
LETTERS = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="$"), max_size=8
).filter(lambda text: "Infinity" not in text)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | LETTERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LETTERS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_a_value_comes_out_of_a_file_as_it_went_in(value):
    """JSON is YAML: numbers stay numbers and texts stay texts."""
    written = json.dumps(value).replace("Infinity", ".inf")
    start = "version: 1\npolicies: {p: {pipeline: [fallback: {value: "

    checked = check_text(f"{start}{written}}}]}}}}\n".encode())

    assert checked.problems == ()
    assert checked.policies["p"].stages[0].options.value == value


@given(st.sampled_from(list(STAGES)), DATA)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_a_stage_ends_in_options_or_slips(key, value):
    """The reader of each stage raises nothing of its own."""

    class Others:
        def policy(self, name: str) -> None:
            raise Mistake(name)

    options, slips = STAGES[key].block.read(value, Others())

    assert (options is None) == bool(slips)
