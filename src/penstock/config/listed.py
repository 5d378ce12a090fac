"""What may be said in a file of resources: where they come from, and what is set for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from penstock.config.problems import Mistake
from penstock.options import Count, Name, Options
from penstock.pools.resource import WEIGHT

__all__ = ["SOURCES", "ListedResource"]

SOURCES = ("env", "env_prefix", "file", "python", "value")

_UNSET: dict[str, Any] = {
    "max_in_flight": None,
    "weight": 1,
    "origins": None,
    "tags": (),
    "group": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedResource(Options):
    """Where one or several resources come from, and what is set for each of them.

    Attributes:
        env: The environment variable that holds the value, or the values.
        env_prefix: Every environment variable whose name begins so, in the order of their names;
            each resource is named by the rest of its variable's name, in lower case.
        file: A file with a value on each line, relative to the policy file; blank lines and lines
            that begin with `#` are left out. Beside `id`, the whole file is one value.
        python: A value, a Resource, several of them, a pool, or a function without arguments that
            returns one of these.
        value: A name or address that is plainly no secret: words and short numbers, such as `gpu-0`
            or `http://proxy:8080`. What may be a key is refused unless `allow_literal` is set.
        split: What separates the values in the variable, or in each line of the file.
        id: The name of the resource; left out, resources are named by their place: `1`, `2`, ...
        max_in_flight: Most uses of each at once, from 1; null for no bound.
        weight: Share of the calls where the pool picks by weight, from 1e-6 to 1e6.
        origins: The origins that a value may be sent to; null for any.
        tags: Free labels.
        group: Resources of one group share a quota and cool down together.
    """

    stage: ClassVar[str] = "resource"

    env: str | None = None
    env_prefix: str | None = None
    file: str | None = None
    # Any: the values of resources.
    python: Any = None
    value: Any = None
    split: str | None = None
    id: Name | None = None
    max_in_flight: Count | None = None
    weight: Annotated[float, WEIGHT] = 1
    origins: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    group: Name | None = None

    def __post_init__(self) -> None:
        """Check every field, and the fields that depend on each other."""
        Options.__post_init__(self)
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"cannot be both {given[0]!r} and {given[1]!r}" if given else "needs a source"
            field = given[1] if given else None
            raise Mistake(f"a resource {what}", f"write one of {', '.join(SOURCES)}", field=field)
        if self.split is not None and self.env is None and self.file is None:
            raise Mistake("'split' goes with 'env' or 'file'", field="split")
        if self.id is not None and (self.env_prefix is not None or self.split is not None):
            raise Mistake("'id' names one resource, and these may be several", field="id")

    @property
    def settings(self) -> dict[str, Any]:
        """What each resource is given besides value and id."""
        return {name: getattr(self, name) for name in _UNSET}

    @property
    def is_bare(self) -> bool:
        """True when nothing is said but where the resources come from."""
        return self.id is None and self.settings == _UNSET
