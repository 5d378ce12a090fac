"""What can be set on a rotation stage."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from keyword import iskeyword
from typing import Annotated, Any, ClassVar, TypeGuard

from penstock.options import Options, Rule, SecondsFromZero
from penstock.pools.given import resources_of
from penstock.pools.options import PoolOptions

__all__ = ["FIRST", "RotationOptions", "is_pool"]

FIRST = "first"
"""The word for: hand the resource over as the first positional argument."""


class _InjectRule(Rule):
    allowed = "'first', None, or the name of a keyword argument"

    def read(self, value: Any) -> Any:
        if not isinstance(value, str) or not value.isidentifier() or iskeyword(value):
            raise ValueError
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationOptions(PoolOptions):
    """Options of the rotation stage: a pool, or resources and the options of a pool of them.

    Attributes:
        resources: What calls take turns with: a list of values or ``Resource`` objects, a dict of
            them by id, or a pool, which brings its own options.
        max_wait: Seconds a call may wait for a resource, from 0; None waits as long as the deadline
            allows, and not at all where there is none.
        inject: How the operation is given the resource: ``first`` puts the ``Resource`` before the
            caller's arguments (after ``self``), the name of a keyword argument passes its value,
            and None passes nothing: the operation asks ``current_resource()``.
    """

    stage: ClassVar[str] = "rotation"

    resources: Any
    max_wait: SecondsFromZero | None = None
    # It reads like the operation of an object: ``search(key, "query")``. The whole resource, not
    # the value: its repr is safe in logs, and it knows where the value may be sent.
    inject: Annotated[str, _InjectRule()] | None = FIRST

    def __post_init__(self) -> None:
        """Check every field; store resources as a tuple."""
        Options.__post_init__(self)
        if is_pool(self.resources):
            self._check_left_out()
        else:
            object.__setattr__(self, "resources", resources_of(self.resources))

    def _check_left_out(self) -> None:
        for each in fields(PoolOptions):
            value = getattr(self, each.name)
            if each.default is not MISSING and value != each.default:
                raise self.refuse(each.name, value, "left out: the pool brings its own")


def is_pool(given: object) -> TypeGuard[Any]:
    """Whether this is a pool and not a collection of resources: it leases, and has a snapshot."""
    leases = all(callable(getattr(given, name, None)) for name in ("lease_nowait", "snapshot"))
    return leases and not isinstance(given, type)
