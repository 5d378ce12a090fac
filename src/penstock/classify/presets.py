"""Presets: what one provider's codes and statuses mean where it is not what they mean elsewhere.

Data, and for three of them a small function that reads a body. The preset of an exception is found
by the module of its class; naming one is for errors and answers of other modules.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, cast, get_args

from penstock.classify.codes import WORDS, words_of
from penstock.classify.presets_bodies import body_of, is_page
from penstock.classify.presets_readers import (
    Reader,
    read_aws,
    read_google,
    read_grpc,
    read_postgres,
    read_redis,
)
from penstock.errors import ConfigError
from penstock.hints import entry, peek
from penstock.verdict import Verdict, VerdictKind

__all__ = [
    "PRESETS",
    "Preset",
    "PresetName",
    "preset_at",
    "preset_named",
    "preset_of",
    "presets_for",
]

PresetName = Literal[
    "aiohttp",
    "anthropic",
    "aws",
    "google_genai",
    "grpc",
    "http",
    "httpx",
    "openai",
    "postgres",
    "redis",
    "stripe",
]

_AUTH = VerdictKind.AUTH
_BUG = VerdictKind.CALLER_BUG
_QUOTA = VerdictKind.QUOTA_EXHAUSTED
_TRANSIENT = VerdictKind.TRANSIENT

_FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class Preset:
    """What one provider means by its answers.

    Attributes:
        modules: Names of modules, and with them of all below them, whose exceptions are its own.
        words: Codes of the provider, which say more than a status.
        statuses: HTTP statuses that mean something else than in the general table.
        read: Finds what no table can say, such as a delay in the body of an error.
        has_statuses: False for what is no HTTP: its results cannot be judged by a status.
    """

    modules: tuple[str, ...] = ()
    words: Mapping[str, VerdictKind] = field(default_factory=dict[str, VerdictKind])
    statuses: Mapping[int, VerdictKind] = field(default_factory=dict[int, VerdictKind])
    read: Reader | None = None
    has_statuses: bool = True

    def by_code(self, outcome: object, wall_now: float) -> Verdict | None:
        """Return what the provider's own code says; None where there is none that is known."""
        body = body_of(outcome)
        told = None if self.read is None else self.read(outcome, body, wall_now)
        if told is not None or not self.words:
            return told
        for word in (entry(peek(outcome, "__dict__"), "error_code"), *words_of(outcome, body)):
            if isinstance(word, str) and word in self.words:
                return Verdict(self.words[word], reason=word)
        return None

    def by_status(self, outcome: object, status: int | None) -> Verdict | None:
        """Return what a status means that has a meaning of its own here."""
        kind = None if status is None else self.statuses.get(status)
        # A page is no answer of an API: a gateway or a firewall refuses whatever key is shown.
        if kind is None or (status == _FORBIDDEN and is_page(outcome)):
            return None
        return Verdict(kind, reason=str(status))


# 409 is a lock that another request holds, and 403 is a key that lacks a right: another key may
# have it. 407 is the proxy's, which a pool of keys has nothing to do with.
_LLM_STATUSES = {403: _AUTH, 407: _BUG, 409: _TRANSIENT}

PRESETS: dict[str, Preset] = {
    "aiohttp": Preset(("aiohttp",)),
    "anthropic": Preset(
        ("anthropic",),
        words={
            **WORDS,
            "contract_spend_limit_reached": _QUOTA,
            "enforced_spend_limit_reached": _QUOTA,
            # Those of somebody else's account, on whose behalf the request was made.
            "linked_organization_billing_unavailable": _BUG,
            "linked_organization_spend_limit_reached": _BUG,
            "organization_on_hold": _AUTH,
            "storage_quota_exceeded": _BUG,
            "memory_path_conflict_error": _BUG,
        },
        statuses=_LLM_STATUSES,
    ),
    "aws": Preset(("botocore", "aiobotocore", "boto3", "aioboto3"), read=read_aws),
    "google_genai": Preset(
        ("google.genai", "google.auth"),
        statuses=_LLM_STATUSES,
        read=read_google,
    ),
    "grpc": Preset(("grpc",), read=read_grpc, has_statuses=False),
    "http": Preset(),
    "httpx": Preset(("httpx", "httpx2")),
    "openai": Preset(
        ("openai", "litellm"),
        words={
            **WORDS,
            "account_deactivated": _AUTH,
            # A 403 about one model of a project, whatever the key may do besides.
            "model_not_found": _BUG,
            # Where we are is the same for every key.
            "unsupported_country_region_territory": _BUG,
        },
        statuses=_LLM_STATUSES,
    ),
    "postgres": Preset(
        ("asyncpg", "psycopg", "psycopg2", "sqlalchemy"), read=read_postgres, has_statuses=False
    ),
    "redis": Preset(("redis", "valkey"), read=read_redis, has_statuses=False),
    "stripe": Preset(
        ("stripe",), words={"lock_timeout": _TRANSIENT}, statuses={407: _BUG, 409: _TRANSIENT}
    ),
}


def presets_for(what: Literal["failures", "results"]) -> tuple[str, ...]:
    """Return the names of the presets that judge failures, or results, in order."""
    names: tuple[str, ...] = get_args(PresetName)
    return names if what == "failures" else tuple(n for n in names if PRESETS[n].has_statuses)


def preset_named(name: str, what: Literal["failures", "results"] = "failures") -> Preset:
    """Return the preset of this name.

    Args:
        name: A word of ``PresetName``.
        what: What is to be judged by it; a database has no statuses to judge results by.

    Raises:
        ConfigError: There is none for that.
    """
    names = presets_for(what)
    if name in names:
        return PRESETS[name]
    option = "classify" if what == "failures" else "classify_result"
    near = difflib.get_close_matches(name[:40].lower(), names, 1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(
        f"policy: '{option}' must be the name of a preset or a plain function; got {name[:40]!r}; "
        f"{meant}presets are {', '.join(names)}"
    )


_BY_MODULE = {
    module: preset
    for preset in PRESETS.values()
    for module in preset.modules
    if preset.words or preset.statuses or preset.read
}


def preset_at(name: str) -> Preset | None:
    """Return the preset that adds something for a module, by the name of it or of what is in it."""
    first, _, rest = name.partition(".")
    return _BY_MODULE.get(first) or _BY_MODULE.get(f"{first}.{rest.partition('.')[0]}")


def _preset_of(failure_type: type[BaseException]) -> Preset | None:
    modules = (peek(base, "__module__") for base in failure_type.__mro__)
    presets = (preset_at(module) for module in modules if isinstance(module, str))
    return next((preset for preset in presets if preset is not None), None)


preset_of = cast("Callable[[type[BaseException]], Preset | None]", lru_cache(512)(_preset_of))
"""Return the preset of the nearest class whose module has one that adds something."""
