from __future__ import annotations

import pytest

from penstock import ConfigError, Policy
from penstock.config import ConfigFileError, Level, Problem, check_text, load, report

BAD = """\
version: 1
policies:
  search:
    pipeline:
      - timeout: 30 secs
      - retry:
          max_attemps: 4
      - rate: 10/sx
      - concurency: 8
      - breaker: {label: x, failure_ratio: 5}
      - breaker:
          failures: 5
          failures: 6
"""

REPORT = """\
bad.yaml:5:18: error: unknown time unit 'secs'
  5 |       - timeout: 30 secs
    |                  ^^^^^^^ did you mean '30s'?
bad.yaml:7:11: error: unknown key 'max_attemps' in 'retry'
  7 |           max_attemps: 4
    |           ^^^^^^^^^^^ did you mean 'attempts'?
bad.yaml:8:15: error: unknown time unit 'sx' in the rate
  8 |       - rate: 10/sx
    |               ^^^^^ did you mean '10/s'?
bad.yaml:9:9: error: unknown stage 'concurency'
  9 |       - concurency: 8
    |         ^^^^^^^^^^ did you mean 'concurrency'?
bad.yaml:10:44: error: 'failure_ratio' must be a ratio above 0 to 1, or a percentage such as 50%; \
got 5
  10 |       - breaker: {label: x, failure_ratio: 5}
     |                                            ^ did you mean '5%'?
bad.yaml:13:11: error: duplicate key 'failures'
  13 |           failures: 6
     |           ^^^^^^^^
     = note: first set on line 12
6 error(s) in bad.yaml"""


def test_every_mistake_is_reported_at_once_with_line_caret_and_fix():
    """One run over a file with six mistakes says where each is and what was meant."""
    problems = check_text(BAD.encode()).problems

    assert report(problems, "bad.yaml") == REPORT


def test_the_error_holds_the_report_and_the_problems_as_data(tmp_path):
    """Whoever catches the error can print it, or go through its problems."""
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)

    with pytest.raises(ConfigError) as caught:
        Policy.from_yaml(file)

    assert isinstance(caught.value, ConfigFileError)
    assert str(caught.value) == REPORT.replace("bad.yaml", str(file))
    first = caught.value.problems[0]
    assert (first.line, first.column, first.width) == (5, 18, 7)
    assert (first.message, first.hint) == ("unknown time unit 'secs'", "did you mean '30s'?")
    assert first.path == "policies.search.pipeline[0].timeout"
    assert first.as_dict()["level"] == "error"
    assert "source" not in first.as_dict()


def test_data_of_a_dict_is_reported_by_path():
    """Where there is no file, the path says which value is meant."""
    data = {
        "version": 1,
        "policies": {"search": {"pipeline": [{"timeout": "5s"}, {"retry": {"attempts": 0}}]}},
    }

    with pytest.raises(ConfigFileError) as caught:
        Policy.from_dict(data)

    assert str(caught.value) == (
        "policies.search.pipeline[1].retry.attempts: error: 'attempts' must be a whole number of "
        "at least 1; got 0\n1 error(s) in the data"
    )


@pytest.mark.parametrize(
    ("stage", "path"),
    [
        ({"timeout": 30}, "timeout"),
        ({"retry": {"retry_on": "transiet"}}, "retry.retry_on"),
        ({"retry": {"retry_on": ("timeout", "transiet")}}, "retry.retry_on[1]"),
        ({"retry": {"wait": 2}}, "retry.wait"),
        ({"rate": ["3/s", "3/sx"]}, "rate[1]"),
        ({"breaker": {"slow_after": "3s"}}, "breaker"),
        ("timeout", ""),
    ],
)
def test_the_path_of_a_problem_holds_what_was_written(stage, path):
    """Keys of a long form that nobody wrote are not in it."""
    with pytest.raises(ConfigFileError) as caught:
        Policy.from_dict({"version": 1, "policies": {"p": {"pipeline": [stage]}}})

    assert caught.value.problems[0].path == f"policies.p.pipeline[0].{path}".rstrip(".")


def test_a_hint_about_a_dict_stands_in_brackets():
    """Without a caret the hint follows the message."""
    with pytest.raises(ConfigFileError, match=r"time unit 'secs' \(did you mean '3s'\?\)"):
        Policy.from_dict({"version": 1, "policies": {"p": {"pipeline": [{"timeout": "3 secs"}]}}})


def test_warnings_are_reported_and_do_not_refuse(tmp_path):
    """An order that rarely does what was meant is said at its stage; the policy is there."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "version: 1\npolicies:\n  p:\n    pipeline:\n      - rate: 10/s\n      - retry: 3\n"
    )

    policies = load(file)
    problems = check_text(file.read_bytes()).problems

    assert list(policies) == ["p"]
    assert [(each.level, each.line, each.column) for each in problems] == [(Level.WARNING, 6, 9)]
    assert report(problems, "p.yaml").startswith("p.yaml:6:9: warning: the rate limit stands out")
    assert report(problems, "p.yaml").endswith("1 warning(s) in p.yaml")


def test_a_long_line_is_cut_round_the_caret():
    """A line of thousands of columns does not bury the place that is meant."""
    source = "x" * 3000 + "HERE" + "y" * 3000
    problem = Problem("wrong", line=1, column=3001, width=4, source=source)

    lines = report([problem], "f").splitlines()

    assert max(map(len, lines)) < 130
    assert lines[1][lines[2].index("^") :].startswith("HERE")
    assert lines[2].count("^") == 4


def test_what_a_terminal_would_obey_is_not_printed():
    """Tabs and control characters of the file become blanks, so that the caret stays right."""
    problem = Problem("wrong", line=1, column=3, source="\t\x1b[31m")

    lines = report([problem], "f").splitlines()

    assert lines[1] == "  1 |   [31m"


def test_a_report_stops_at_fifty_problems():
    """What comes after fifty is counted, not shown."""
    text = report([Problem(f"number {n}", line=n, column=1) for n in range(1, 81)], "f")

    assert "number 50" in text
    assert "number 51" not in text
    assert text.endswith("... and 30 more\n80 error(s) in f")


def test_a_problem_without_a_line_to_show_still_gives_its_hint():
    """A hint has a line of its own where there is no source."""
    text = report([Problem("wrong", line=3, column=1, hint="do this")], "f")

    assert text.splitlines()[1] == "    = do this"
