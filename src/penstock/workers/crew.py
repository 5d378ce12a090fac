"""How the workers of a pool are made, and who is told what becomes of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock import clock
from penstock.errors import ConfigError
from penstock.events import Event
from penstock.workers.engine import Mode, WorkerSpec
from penstock.workers.events import WorkerChanged
from penstock.workers.modes import mode_of
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.slot import Slot, SlotState

__all__ = ["Crew", "Makes", "ReadyMade"]

_log = logging.getLogger("penstock")

# Modes in which a worker is in the memory of whoever made it.
_HERE = ("asyncio", "thread")


class Makes:
    """How each worker is made.

    Args:
        make: The workers' class, or a function that returns one.
        args: Its arguments.
        kwargs: The same, by keyword.

    Attributes:
        places: How many workers there can be; None for no bound.
    """

    __slots__ = ("args", "kwargs", "make")

    places: int | None = None

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

    @staticmethod
    def of_workers(workers: Iterable[Any]) -> ReadyMade:
        """Return how workers are "made" that are there already."""
        return ReadyMade(workers)

    def of(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """Return what makes the worker of a place."""
        del index
        return self.make, self.args, self.kwargs


class ReadyMade(Makes):
    """Workers that are there already, each at the place that it has in a list.

    They live where they were made: in this process. A restart stops and starts the same object.

    Args:
        workers: The workers; no object twice.

    Raises:
        ConfigError: There is none, or one is there twice.
    """

    __slots__ = ("_workers", "places")

    places: int | None

    def __init__(self, workers: Iterable[Any]) -> None:
        self._workers: tuple[Any, ...] = (*workers,)
        self.places = count = len(self._workers)
        if not self._workers:
            raise WorkerPoolOptions.refuse("workers", [], "a list of at least one worker")
        if len({id(worker) for worker in self._workers}) < count:
            twice = next(w for w in self._workers if sum(w is o for o in self._workers) > 1)
            what = f"the same {type(twice).__qualname__} twice"
            raise ConfigError(f"workers: 'workers' must be different objects; got {what}")
        kinds: set[type] = {type(worker) for worker in self._workers}
        make: Callable[..., Any] = self._workers.__getitem__
        super().__init__(kinds.pop() if len(kinds) == 1 else make, (), {})

    def of(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """Return what gives the worker of a place."""
        return self._workers.__getitem__, (index,), {}

    def options(self, given: Mapping[str, Any]) -> WorkerPoolOptions:
        """Return the pool's options, with as many workers as there are.

        Raises:
            ConfigError: An option is not allowed: workers that are made cannot move to another
                process, and there are no more than these.
        """
        for name in ("size", "max_size"):
            if name in given:
                allowed = "left out: there are as many workers as are given"
                raise WorkerPoolOptions.refuse(name, given[name], allowed)
        merged: dict[str, Any] = {**given, "size": self.places}
        options = WorkerPoolOptions(**merged)
        if options.mode not in _HERE:
            allowed = "'asyncio' or 'thread' for workers that are made already"
            raise WorkerPoolOptions.refuse("mode", options.mode, allowed)
        return options


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
