"""The policy of the five keys, read from its file as any program would read it."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.demo.rotation.book import Book
from penstock.demo.rotation.keys import KEYS, value_of
from penstock.demo.tally import Tally
from penstock.policy import Policy
from penstock.pools.administration import Administered
from penstock.stages.rotation import Rotation

__all__ = ["FiveKeys", "five_keys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FiveKeys:
    """The policy of a run, and all that counts in it.

    Attributes:
        policy: Rotates over the keys.
        pool: The keys.
        tally: What the policy's events say.
        book: What is sent with each key and what comes back.
    """

    policy: Policy
    pool: Administered
    tally: Tally
    book: Book


def five_keys(recipe: Path, seed: int, url: str) -> FiveKeys:
    """Return the policy of a file, with fresh counts.

    Args:
        recipe: The file.
        seed: Which values the keys have; the file finds them in the environment.
        url: The server's base URL, where alone they may be sent.
    """
    values = {f"PENSTOCK_DEMO_KEY_{terms.id.upper()}": value_of(seed, terms.id) for terms in KEYS}
    tally = Tally()
    with _environment({**values, "PENSTOCK_DEMO_URL": url}):
        policy = Policy.from_yaml(recipe, observers=[tally])
    pools = [stage.pool for stage in policy.stages if isinstance(stage, Rotation)]
    return FiveKeys(policy=policy, pool=pools[0], tally=tally, book=Book())


@contextmanager
def _environment(changes: Mapping[str, str]) -> Generator[None, None, None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
