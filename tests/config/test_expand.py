"""References to the environment, and literals that belong there."""

from __future__ import annotations

import pytest

from penstock.config import ConfigFileError, check_text, load_dict, report
from penstock.config.expand import Expander
from penstock.config.problems import masked
from penstock.config.sink import Sink

ENVIRONMENT = {"LIMIT": "20", "EMPTY": "", "NAME": "x$y"}
TEXTS = {
    "${LIMIT}": "20",
    "a${LIMIT}b${LIMIT}": "a20b20",
    "${NOPE:-30s}": "30s",
    "${EMPTY:-30s}": "30s",
    "${EMPTY}": "",
    "${LIMIT:-7}": "20",
    "${LIMIT:?say it}": "20",
    "${NOPE:-}": "",
    "$${LIMIT}": "${LIMIT}",
    "5$$": "5$",
    "$LIMIT": "$LIMIT",
    "${NAME}": "x$y",
}


@pytest.mark.parametrize(("text", "value"), TEXTS.items())
def test_references_to_the_environment_are_replaced(text, value):
    """The forms that docker compose made known."""
    sink = Sink()

    expanded = Expander(sink, environment=ENVIRONMENT).expand(text)

    assert expanded == value
    assert sink.problems == []


WRONG = {
    "${NOPE}": "environment variable 'NOPE' is not set",
    "${NOPE:?put it there}": "environment variable 'NOPE': put it there",
    "${EMPTY:?}": "environment variable 'EMPTY': it is not set, or empty",
    "${}": "a reference that cannot be read: '${}'",
    "${A-b}": "a reference that cannot be read: '${A-b}'",
    "${open": "a reference that cannot be read: '${'",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_a_reference_that_cannot_be_replaced_is_a_mistake(text, message):
    """It is reported where it stands, and nobody complains a second time about the same value."""
    sink = Sink()
    sink.data = {"a": text}

    Expander(sink, environment=ENVIRONMENT).expand(sink.data)

    assert [each.message for each in sink.problems] == [message]
    assert sink.problems[0].path == "a"


def test_a_missing_variable_is_the_only_problem_of_its_value(complaints):
    """That the text left over is no duration either is not worth a line."""
    assert complaints("- timeout: ${PENSTOCK_TEST_NOPE}") == [
        (
            "environment variable 'PENSTOCK_TEST_NOPE' is not set | "
            "set it, or write ${PENSTOCK_TEST_NOPE:-default}"
        )
    ]


def test_numbers_durations_and_rates_can_come_from_the_environment(check_stages, monkeypatch):
    """A text from there is read like one of the file."""
    monkeypatch.setenv("PENSTOCK_TEST_LIMIT", "20")

    checked = check_stages("""
        - timeout: ${PENSTOCK_TEST_TIME:-3s}
        - budget: {ratio: "${PENSTOCK_TEST_RATIO:-30%}"}
        - rate: "${PENSTOCK_TEST_LIMIT}/s"
        - concurrency: {limit: "${PENSTOCK_TEST_LIMIT}"}
    """)

    assert checked.problems == ()
    timeout, budget, rate, concurrency = checked.policies["p"].stages
    assert timeout.options.seconds == 3
    assert budget.options.ratio == 0.3
    assert rate.options.rate[0].amount == 20
    assert concurrency.options.limit == 20


def test_a_value_from_the_environment_is_never_shown(complaints, monkeypatch):
    """It may be a secret that stands in the wrong place."""
    monkeypatch.setenv("PENSTOCK_TEST_SECRET", "hunter2 secs")
    monkeypatch.setenv("PENSTOCK_TEST_DOTTED", "hunter2.x")
    value = "${PENSTOCK_TEST_SECRET}"

    text = "\n".join(
        complaints(f"""
            - timeout: {value}
            - rate: {value}
            - retry: {{wait: "{value}", retry_on: "{value}", attempts: "{value}"}}
            - retry: {{wait: {{exponential: {{jitter: "{value}"}}}}}}
            - breaker: {{failure_ratio: "{value}", on_state_change: "{value}"}}
            - fallback: {{policy: "{value}"}}
            - shared: {value}
            - retry: {{retry_on: "${{PENSTOCK_TEST_DOTTED}}"}}
            - fallback: {{python: "${{PENSTOCK_TEST_DOTTED}}:y"}}
        """)
    )

    assert "hunter2" not in text
    assert text.count("the value of '${PENSTOCK_TEST_SECRET}'") == 10
    assert text.count("cannot import the value of '${PENSTOCK_TEST_DOTTED}") == 2


KEYS = [
    "sk-abcdefgh12345678",
    "sk-proj-abcdefgh12345678",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "xoxb-123456789012-abcdef",
    "Bearer sk-abcdefgh12345678",
    "${KEY:-sk-abcdefgh12345678}",
    "-----BEGIN RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_literal_that_looks_like_a_key_is_refused_and_not_shown(key):
    """Keys in files end up in repositories; and the report may end up in a log."""
    text = (
        "version: 1\npolicies:\n  p:\n    pipeline:\n"
        f'      - {{fallback: {{value: "{key}"}}, timeout: 3}}\n'
    )
    checked = check_text(text.encode())

    shown = report(checked.problems, "f")

    assert checked.policies == {}
    assert "this looks like a key, which has no place here" in shown
    assert key not in shown
    assert "abcdefgh1" not in shown


def test_allow_literal_lets_it_through(check_file):
    """A model's name, or a test, may look like a key."""
    checked = check_file("""
        version: 1
        allow_literal: true
        policies: {p: {pipeline: [fallback: {value: sk-abcdefgh12345678}]}}
    """)

    assert checked.problems == ()
    assert checked.policies["p"].stages[0].options.value == "sk-abcdefgh12345678"


@pytest.mark.parametrize("text", ["task-force-meeting", "sk-short", "ask-somebody-else", "10/s"])
def test_ordinary_words_are_no_keys(text):
    """A prefix alone, or inside a word, is no reason."""
    assert masked(text) == text


def test_a_masked_text_keeps_its_length():
    """The caret under the line would be in the wrong place otherwise."""
    assert masked("a sk-abcdefgh12345678 b") == "a sk-a*************** b"


def test_data_that_contains_itself_is_refused():
    """A dict can do what a file cannot."""
    loop: dict[str, object] = {"version": 1}
    loop["policies"] = loop

    with pytest.raises(ConfigFileError, match="nested more than 50 levels deep"):
        load_dict(loop)


def test_data_without_end_is_refused():
    """Ten thousand values are enough for a dict, too."""
    with pytest.raises(ConfigFileError, match="more than 10000 values"):
        load_dict({"version": 1, "policies": [0] * 20_000})


def test_a_key_that_is_no_text_is_refused():
    """Python has other keys, YAML files have texts."""
    with pytest.raises(ConfigFileError, match="a key must be a text; got 1"):
        load_dict({"version": 1, "policies": {1: {"pipeline": []}}})


def test_half_a_surrogate_pair_in_a_dict_is_refused():
    """Nobody could print it."""
    data = {"version": 1, "policies": {"p": {"pipeline": [{"fallback": {"value": "\ud800"}}]}}}

    with pytest.raises(ConfigFileError, match="half of a surrogate pair"):
        load_dict(data)
