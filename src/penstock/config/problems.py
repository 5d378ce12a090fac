"""What is wrong with a policy file, as data."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penstock.errors import ConfigError
from penstock.order import Level

__all__ = [
    "ConfigFileError",
    "Level",
    "Loc",
    "Mistake",
    "Problem",
    "Reference",
    "looks_secret",
    "masked",
    "nearest",
    "path_of",
    "shown",
]

Loc = tuple[str | int, ...]
"""Where in the data: keys of mappings and indices of lists, from the root."""

# Prefixes that vendors gave their keys so that scanners find them: OpenAI, Anthropic and Stripe,
# AWS, GitHub, GitLab, Slack, Google, Hugging Face, Groq, and private keys in PEM.
_SECRET = re.compile(
    r"(?<![A-Za-z0-9_])(?:[sr]k[-_]|(?:AKIA|ASIA)(?=[0-9A-Z]{8})|gh[pousr]_|github_pat_|glpat-"
    r"|xox[abeprs]-|AIza(?=[\w-]{12})|hf_|gsk_)[\w-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
# What is longer than this helps nobody to find it.
_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, or one thing to think about, in a policy file.

    Attributes:
        message: What is wrong.
        path: Which value, for example ``policies.search.pipeline[1].retry.attempts``.
        line: Its line, from 1; None where there is no file.
        column: Its column, from 1; None where there is no file.
        hint: What to do, in a few words; None where nobody can know.
        note: A further fact, for example where a key was set first.
        level: ERROR refuses the file, WARNING does not.
        width: Columns that the caret marks.
        source: The line itself, with what looks like a key masked; None where it may hold a secret.
    """

    message: str
    path: str = ""
    line: int | None = None
    column: int | None = None
    hint: str | None = None
    note: str | None = None
    level: Level = Level.ERROR
    width: int = 1
    source: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as JSON can hold it; the source line stays out."""
        data = asdict(self)
        return {**{k: v for k, v in data.items() if k != "source"}, "level": self.level.value}


class ConfigFileError(ConfigError):
    """A policy file, or the same as a dict, has mistakes; the message is the whole report.

    Args:
        report: Every problem, as text.
        problems: The same as data, in the order of the file.
    """

    def __init__(self, report: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(report)
        self.problems = tuple(problems)


class Mistake(ValueError):  # noqa: N818 - it never leaves this package
    """A value cannot be read; whoever knows its place makes a ``Problem`` of it.

    Args:
        message: What is wrong.
        hint: What to do.
        field: The key inside the value at hand that is to blame, if it is a mapping.
        hides: True when the value may be a secret, so that its line is shown nowhere.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        field: str | None = None,
        hides: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.hides = hides


class Reference(str):
    """A text in which ``${NAME}`` was replaced; its value is never shown, what was written is."""

    __slots__ = ("written",)

    written: str

    @classmethod
    def of(cls, value: str, written: str) -> Reference:
        """Return ``value`` with the memory of what stood in the file."""
        text = cls(value)
        text.written = written
        return text


def shown(value: object) -> str:
    """Return a value as a message may show it: short, in YAML's words, without secrets."""
    if isinstance(value, Reference):
        return f"the value of {shown(value.written)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    try:
        text = masked(repr(value))
    except ValueError:  # an int of more digits than Python is willing to print
        text = "a number of thousands of digits"
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def looks_secret(text: str) -> bool:
    """Answer whether a text looks like a key that belongs into the environment."""
    return _SECRET.search(text) is not None


def masked(text: str) -> str:
    """Return the text, of the same length, with what looks like a key cut to its first letters."""
    return _SECRET.sub(lambda found: found[0][:4].ljust(len(found[0]), "*"), text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the hint with the known word that was probably meant; None if there is none."""
    found = difflib.get_close_matches(word[:_MOST_SHOWN].lower(), list(known), 1)
    return f"did you mean '{found[0]}'?" if found else None


def path_of(loc: Loc) -> str:
    """Return a place in the data as one text: ``policies.search.pipeline[1]``."""
    text = ""
    for part in loc:
        step = f"[{part}]" if isinstance(part, int) else ("." if text else "") + _key(part)
        text += step
    return text


def _key(key: str) -> str:
    plain = re.fullmatch(r"[\w-]{1,60}", key)
    return key if plain else shown(key)
