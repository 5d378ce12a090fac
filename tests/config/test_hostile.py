"""Files that want to do harm: each ends in a clear problem, soon."""

from __future__ import annotations

import time

import pytest

from penstock.config import ConfigFileError, check, check_text, load
from penstock.config.compose import MOST_DEPTH, MOST_NODES
from penstock.config.source import MOST_BYTES

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)
)
FILES = {
    "billion laughs": (LAUGHS, "more than 10000 values, those of aliases included"),
    "more brackets than fit": ("[" * 200_000, "a policy file holds at most 128 KiB"),
    "open brackets": ("[" * 100_000, "nested more than 50 levels deep"),
    "open braces": ("{a: " * 25_000, "nested more than 50 levels deep"),
    "dashes": ("- " * 50_000, "nested more than 50 levels deep"),
    "too large": ("#" * 10_000_000, "a policy file holds at most 128 KiB"),
    "list in itself": ("a: &a [*a]", "the alias '*a' contains itself"),
    "map in itself": ("&a {b: *a}", "the alias '*a' contains itself"),
    "python tag": ("a: !!python/object/apply:os.system [ls]", "tags are not supported"),
    "local tag": ("a: !secret x", "tags are not supported; got '!secret'"),
    "merge key": ("a: &a {b: 1}\nc:\n  <<: *a", "merge keys ('<<') are not supported"),
    "unknown anchor": ("a: &name 1\nb: *nane", "unknown anchor 'nane'"),
    "two documents": ("a: 1\n---\nb: 2", "a policy file holds one document; remove this '---'"),
    "control character": ("a: \x07", "the character #x0007 is not allowed in YAML"),
    "impossible escape": (r'a: "\UFFFFFFFF"', "this is not YAML that can be read"),
    "half a pair": (r'a: "\ud800"', "half of a surrogate pair is not a character"),
    "key that is a list": ("[a, b]: 1", "a key must be a plain text"),
    "key that is an alias": ("a: &a 1\n*a : 2", "a key must be a plain text"),
    "endless version": (f"%YAML 1.{'9' * 5000}\n---\na", "this is not YAML that can be read"),
    "thousand deep alias": (
        "\n".join(f"a{n}: &a{n} [*a{n - 1}]" if n else "a0: &a0 [x]" for n in range(100)),
        "nested more than 50 levels deep",
    ),
}


@pytest.mark.finding(9)
@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_ends_in_a_problem_within_a_second(name):
    """Neither time nor memory nor the process is lost to it."""
    text, message = FILES[name]

    took = []
    while not took or (min(took) >= 1 and len(took) < 3):
        # A neighbour on the same core makes one run slow, not three.
        began = time.process_time()
        checked = check_text(text.encode())
        took.append(time.process_time() - began)

    assert min(took) < 1
    assert checked.policies == {}
    assert any(each.message.startswith(message) for each in checked.problems)
    assert all(each.line is not None for each in checked.problems)


SLOW = {
    "one text": "a" * (MOST_BYTES - 1),
    "words": "a b " * (MOST_BYTES // 4 - 1),
    "blank lines": "\n" * MOST_BYTES,
    "lines of words": "a:\n" + " x\n" * (MOST_BYTES // 3 - 2),
    "escapes": '"' + r"\x41" * (MOST_BYTES // 4 - 1) + '"',
    "comments": "# x\n" * (MOST_BYTES // 4),
}


@pytest.mark.parametrize("name", SLOW)
def test_the_slowest_files_that_are_read_take_less_than_a_second(name):
    """The limit of size is what keeps the slow parser from being a weapon."""
    began = time.process_time()

    checked = check_text(SLOW[name].encode())

    assert time.process_time() - began < 1
    assert checked.policies == {}
    assert checked.problems


def test_only_the_beginning_of_an_endless_file_is_read():
    """A device that never ends is refused for its size."""
    with pytest.raises(ConfigFileError, match="at most 128 KiB"):
        load("/dev/zero")


def test_a_file_that_is_not_there_is_an_oserror(tmp_path):
    """The file's content is not to blame, so it is no ConfigError."""
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.yaml")


def test_bytes_that_are_not_utf_8_are_reported_at_their_line():
    """The place of the wrong byte is found in what came before it."""
    problem = check_text(b"version: 1\nname: \xff").problems[0]

    assert (problem.line, problem.column) == (2, 7)
    assert problem.message == "not UTF-8: byte 0xff"


def test_a_byte_order_mark_moves_no_column():
    """Some editors write one, and nobody sees it."""
    problem = check_text(b"\xef\xbb\xbfversoin: 1").problems[0]

    assert (problem.line, problem.column, problem.source) == (1, 1, "versoin: 1")


def test_what_yaml_refuses_is_reported_with_its_place():
    """The parser's own words are kept, with the place it gives."""
    problem = check_text(b"version: 1\npolicies: {a: [1, 2}").problems[0]

    assert (problem.line, problem.column) == (2, 20)
    assert "while parsing a flow sequence" in problem.message


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "- a\n", "text\n"])
def test_a_file_that_is_no_mapping_is_refused(text):
    """The first thing to write is said."""
    problem = check_text(text.encode()).problems[0]

    assert problem.message.startswith("a policy file must be a mapping; got ")
    assert problem.hint == "write 'version: 1' and 'policies:'"


def test_an_anchor_may_be_used_again(check_file):
    """Aliases are fine as long as what they stand for is paid for."""
    checked = check_file("""
        version: 1
        policies:
          a: &same {pipeline: [timeout: &t 3s]}
          b: *same
          c: {pipeline: [timeout: *t, retry: 3]}
    """)

    assert [each.message for each in checked.problems] == []
    assert list(checked.policies) == ["a", "b", "c"]


def test_a_mistake_in_an_anchored_part_is_reported_once(check_file):
    """It stands in the file once, however many aliases meet it."""
    checked = check_file("""
        version: 1
        policies:
          a: &same {pipeline: [timeout: 3]}
          b: *same
    """)

    assert [(each.line, each.message) for each in checked.problems] == [
        (4, "a duration needs a unit")
    ]


def test_check_reads_a_path_as_text_or_path(tmp_path):
    """Both ways to name a file work."""
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\npolicies: {p: {pipeline: [timeout: 3s]}}\n")

    assert list(check(file).policies) == list(check(str(file)).policies) == ["p"]


NOT_A_MAPPING = "a policy file must be a mapping"
EDGES = {
    "values": (f"[{', '.join('1' * (MOST_NODES - 1))}]", NOT_A_MAPPING),
    "one value more": (f"[{', '.join('1' * MOST_NODES)}]", "more than 10000 values"),
    "depth": ("[" * MOST_DEPTH + "]" * MOST_DEPTH, NOT_A_MAPPING),
    "one level more": ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested more than 50"),
    "size": ("#" + " " * (MOST_BYTES - 1), NOT_A_MAPPING),
    "one byte more": ("#" + " " * MOST_BYTES, "a policy file holds at most"),
    "alias at its depth": (
        f"- &a {'[' * (MOST_DEPTH - 1)}{']' * (MOST_DEPTH - 1)}\n- *a",
        NOT_A_MAPPING,
    ),
    "alias one level too deep": (
        f"- &a {'[' * (MOST_DEPTH - 1)}{']' * (MOST_DEPTH - 1)}\n- [*a]",
        "nested more than 50",
    ),
    "aliases that fit": (
        f"- &a [{', '.join('1' * 99)}]\n- [{', '.join(['*a'] * 98)}]",
        NOT_A_MAPPING,
    ),
    "one alias more": (
        f"- &a [{', '.join('1' * 99)}]\n- [{', '.join(['*a'] * 99)}]",
        "more than 10000 values",
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_limits_are_where_they_are_said_to_be(name):
    """What just fits is read, and what does not is refused for that reason."""
    text, message = EDGES[name]

    problems = check_text(text.encode()).problems

    assert [each.message.startswith(message) for each in problems] == [True]
