"""The JSON Schema and the reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from penstock.config import check_text
from penstock.config.reference import main, reference_page
from penstock.config.schema import policy_schema, schema_text

ROOT = Path(__file__).parents[2]

GOOD = [
    "timeout: 1m30s",
    "{timeout: {seconds: 1.5s}}",
    "retry",
    "retry:",
    "retry: 3",
    'retry: "3"',
    "retry: {wait: 2s}",
    "retry: {wait: 0}",
    "retry: {wait: exponential}",
    "retry: {wait: {exponential: }}",
    "retry: {wait: {exponential: {initial: 200ms, max: 10s, jitter: full}}}",
    "retry: {wait: {smooth: 1s}}",
    "retry: {wait: {constant: {seconds: 0, jitter: 10%}}}",
    "retry: {wait: {python: 'os:getcwd'}, accept: [{python: 'os:getcwd'}]}",
    "retry: {retry_on: [transient, TimeoutError, json.JSONDecodeError], stop: 1m}",
    "retry: {retry_on: timeout, max_server_delay: 0, attempts: null}",
    "rate: 10/s",
    "rate: [10/s, 500 per minute]",
    "rate: {requests: 500/min, tokens: 30000/min}",
    "rate: {rate: 600/min, burst: 10, cost: 2, max_wait: 0}",
    "rate: {rate: {a: 5/s}, cost: {a: 2}}",
    "breaker",
    "breaker: 7",
    "breaker: {failure_ratio: 50%, window_seconds: 10s, label: x}",
    "breaker: {failure_ratio: 0.5, on_state_change: {python: 'os:getcwd'}}",
    "concurrency: 8",
    "concurrency: {limit: 8, max_queue: 0, max_wait: 100ms}",
    "fallback: {python: 'os:getcwd'}",
    "fallback: {value: [1, {a: b}], fallback_on: timeout}",
    "fallback: {policy: other}",
    "budget",
    "budget: 20%",
    "budget: {ratio: 0, min_per_second: 2.5}",
    "timeout: ${PENSTOCK_TEST_NOPE:-3s}",
    "concurrency: ${PENSTOCK_TEST_NOPE:-3}",
    "shared: quota",
]
BAD = [
    "timeout",
    "timeout:",
    "timeout: 30",
    "timeout: 0",
    "timeout: 0s",
    "timeout: 30 secs",
    "timeout: {second: 3s}",
    "timeout: 3s\n        retry: 3",
    "retry: 0",
    "retry: 2.5",
    "retry: many",
    "retry: {max_attemps: 3}",
    "retry: {wait: 2}",
    "retry: {wait: exponentiel}",
    "retry: {wait: {exponentiel: }}",
    "retry: {wait: {linear: 1s, smooth: 1s}}",
    "retry: {wait: {exponential: {jitter: 3}}}",
    "retry: {wait: constant}",
    "retry: {retry_on: transiet}",
    "retry: {retry_on: []}",
    "retry: {on_retry: print}",
    "rate: 10",
    "rate: 10/sx",
    "rate: []",
    "rate: {rate: 10/s, cost: much}",
    "breaker: {failure_ratio: 50}",
    "breaker: {failure_ratio: often}",
    "breaker: {label: ''}",
    "concurrency: {max_queue: 3}",
    "concurrency: -1",
    "fallback",
    "fallback: 3",
    "budget: {min_per_second: -1}",
    "concurency: 8",
    "rotate: {}",
    "shared: [x]",
    "5",
    "{}",
]
FILE = """\
version: 1
shared: {{quota: {{rate: 10/s}}}}
policies:
  other: {{classify_result: http, pipeline: [shared: quota]}}
  p:
    pipeline:
      - {}
"""


def is_valid(data: Any) -> bool:
    """Ask the schema."""
    return Draft202012Validator(policy_schema()).is_valid(data)


def test_the_schema_is_a_schema():
    """It says draft 2020-12, and is one."""
    schema = policy_schema()

    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("stage", GOOD)
def test_what_can_be_loaded_is_valid(stage):
    """An editor marks nothing red that works."""
    text = FILE.format(stage)

    assert check_text(text.encode()).problems == ()
    assert is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("stage", BAD)
def test_what_is_wrong_in_itself_is_invalid(stage):
    """An editor marks what needs no code to be seen."""
    text = FILE.format(stage)

    assert check_text(text.encode()).problems != ()
    assert not is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "policies: {p: {pipeline: []}}",
        "version: 2\npolicies: {p: {pipeline: []}}",
        "version: 1",
        "version: 1\npolicies: {}",
        "version: 1\npolicies: {p: []}",
        "version: 1\npolicies: {p: {}}",
        "version: 1\npolicies: {'': {pipeline: []}}",
        "version: 1\npolicies: {p: {pipeline: [], clasify: 3}}",
        "version: 1\npolices: {}\npolicies: {p: {pipeline: []}}",
        "version: 1\nshared: {a: {shared: b}}\npolicies: {p: {pipeline: []}}",
    ],
)
def test_a_wrong_frame_is_invalid(text):
    """The keys round the stages are described as well."""
    assert check_text(text.encode()).problems != ()
    assert not is_valid(yaml.safe_load(text))


def test_the_recipes_are_valid():
    """What users copy is what editors accept."""
    for file in (ROOT / "recipes").glob("*.yaml"):
        assert is_valid(yaml.safe_load(file.read_text(encoding="utf-8"))), file


def test_the_files_in_the_repository_are_up_to_date(tmp_path):
    """Run ``python -m penstock.config.reference`` where this fails."""
    main([str(tmp_path)])

    for name in ("yaml.md", "policy.schema.json"):
        expected = (tmp_path / name).read_text(encoding="utf-8")
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == expected


def test_page_and_schema_are_the_same_each_time():
    """A diff of them is a change of the options, and nothing else."""
    assert reference_page() == reference_page()
    assert schema_text() == schema_text()
