"""The fluent method that puts a pool of resources innermost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from penstock.keywords import PoolKeywords
from penstock.options import in_seconds
from penstock.stage import Stage

if TYPE_CHECKING:
    from datetime import timedelta

    from penstock.pool import Pool
    from penstock.pools.resource import Resource
    from penstock.rotating import InjectingPolicy, RotatingPolicy

__all__ = ["Rotatable"]

T = TypeVar("T")


class Rotatable:
    """``rotating``, for whatever has ``with_stage``."""

    __slots__ = ()

    def with_stage(self, stage: Stage) -> Self:
        """Return a policy with one more stage, inside those already there."""
        raise NotImplementedError

    def _as_rotating(self, inject: str | None) -> Any:
        raise NotImplementedError

    @overload
    def rotating(
        self,
        resources: Pool[T] | Mapping[str, Resource[T]] | Iterable[Resource[T]],
        *,
        max_wait: float | timedelta | None = None,
        inject: Literal["first"] = "first",
        **options: Unpack[PoolKeywords],
    ) -> RotatingPolicy[T]: ...
    @overload
    def rotating(
        self,
        resources: Mapping[str, T],
        *,
        max_wait: float | timedelta | None = None,
        inject: Literal["first"] = "first",
        **options: Unpack[PoolKeywords],
    ) -> RotatingPolicy[T]: ...
    @overload
    def rotating(
        self,
        resources: Iterable[T],
        *,
        max_wait: float | timedelta | None = None,
        inject: Literal["first"] = "first",
        **options: Unpack[PoolKeywords],
    ) -> RotatingPolicy[T]: ...
    @overload
    def rotating(
        self,
        resources: Any,
        *,
        max_wait: float | timedelta | None = None,
        inject: None,
        **options: Unpack[PoolKeywords],
    ) -> Self: ...
    @overload
    def rotating(
        self,
        resources: Any,
        *,
        max_wait: float | timedelta | None = None,
        inject: str,
        **options: Unpack[PoolKeywords],
    ) -> InjectingPolicy: ...
    def rotating(
        self,
        resources: Any,
        *,
        max_wait: Any = None,
        inject: str | None = "first",
        **options: Any,
    ) -> Any:
        """Give each attempt one of ``resources``; it has to be the innermost stage.

        See ``RotationOptions``. The options of the pool are for resources; a ``Pool`` has its own.

        Args:
            resources: A list of values or ``Resource`` objects, a dict of them by id, or a pool.
            max_wait: Most seconds that an attempt waits for a resource, from 0; None waits as long
                as the deadline allows, and fails at once where there is none.
            inject: ``"first"`` hands the ``Resource`` to the operation as its first argument, a
                name hands its value by that keyword, None nothing (``current_resource()``).
            options: See ``PoolOptions``.

        Raises:
            ConfigError: A value is not allowed, there is no resource, or an id is there twice.
        """
        from penstock.stages.rotation import Rotation, RotationOptions  # noqa: PLC0415 - as needed

        stage = Rotation(
            RotationOptions(
                resources=resources, max_wait=in_seconds(max_wait), inject=inject, **options
            )
        )
        return self.with_stage(stage)._as_rotating(inject)  # noqa: SLF001 - another of this class
