"""How the workers of a pool are made, and who is told what becomes of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from penstock import clock
from penstock.events import Event
from penstock.workers.engine import Mode, WorkerSpec
from penstock.workers.events import WorkerChanged
from penstock.workers.modes import mode_of
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.slot import Slot, SlotState

__all__ = ["Crew", "Makes"]

_log = logging.getLogger("penstock")


class Makes:
    """How each worker is made.

    Args:
        make: The workers' class, or a function that returns one; where there is a list of them,
            what ``make`` is called with follows from the index.
        args: Its arguments.
        kwargs: The same, by keyword.
    """

    __slots__ = ("args", "kwargs", "make")

    def __init__(
        self, make: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.make = make
        self.args = args
        self.kwargs = kwargs

    @property
    def kind(self) -> type | None:
        """The workers' class, where it is known."""
        return self.make if isinstance(self.make, type) else None

    def of(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """Return what makes the worker of a place."""
        del index
        return self.make, self.args, self.kwargs


class Crew:
    """What all workers of a pool share.

    Args:
        makes: How each is made.
        options: The pool's.
        notify: Takes events; None when nobody observes.
        on_up: Called when a worker is up, or is given up: whoever waits for one may look again.
    """

    def __init__(
        self,
        makes: Makes,
        options: WorkerPoolOptions,
        notify: Callable[[Event], None] | None,
        on_up: Callable[[], None],
    ) -> None:
        self.makes = makes
        self.options = options
        self.mode: Mode = mode_of(options.mode)
        self.somebody_is_up = on_up
        self._notify = notify

    def spec(self, index: int, id_: str) -> WorkerSpec:
        """Return how the worker of a place is made."""
        make, args, kwargs = self.makes.of(index)
        return WorkerSpec(
            id=id_, index=index, make=make, args=args, kwargs=kwargs, options=self.options
        )

    def changed(
        self, slot: Slot, state: SlotState, reason: str, seconds: float | None = None
    ) -> None:
        """Move a worker to a state, and tell everybody."""
        old, slot.state = slot.state, state
        self.tell(
            WorkerChanged,
            worker=slot.id,
            old=old.value,
            new=state.value,
            reason=reason,
            seconds=seconds,
        )
        level = logging.WARNING if state is SlotState.PARKED else logging.INFO
        _log.log(
            level,
            "worker '%s' of pool '%s' is %s (%s)",
            slot.id,
            self.options.name,
            state.value,
            reason,
        )

    def failed_to_start(self, slot: Slot, failure: BaseException) -> None:
        """Say that a worker could not start; its error is shown to whoever waits for the pool."""
        kind = type(failure).__name__
        _log.warning("worker '%s' of pool '%s': start raised %s", slot.id, self.options.name, kind)

    def failed_to_stop(self, slot: Slot, failure: BaseException) -> None:
        """Say that a worker's ``stop`` raised or hung."""
        kind = type(failure).__name__
        _log.warning("worker '%s' of pool '%s': stop raised %s", slot.id, self.options.name, kind)

    def tell(self, event_type: Callable[..., Event], **facts: Any) -> None:
        """Tell the observers."""
        if self._notify is not None:
            self._notify(event_type(policy=self.options.name, at=clock.now(), **facts))
