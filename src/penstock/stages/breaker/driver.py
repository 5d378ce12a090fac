"""The synchronous half of driving a ``pybreaker.CircuitBreaker``: all that is done to it.

What is used of pybreaker:

- ``breaker.state``, an object per state, which serves as the generation (reading it also notices
  what another process wrote to a shared storage), ``current_state``, ``half_open()``,
  ``reset_timeout``, ``listeners``, ``is_system_error()``, ``fail_counter``, ``name``;
- the state object's ``on_success()`` and ``on_failure()``: they know ``fail_max`` and
  ``success_threshold``, and close and open the circuit;
- not public: ``_lock``; ``_state_storage``, for ``opened_at`` and for the counters, which a state
  object expects to have been moved before; ``_state`` and ``_create_new_state()``, for a copy and
  to finish a change that a listener has broken off.
"""

# pybreaker has no public way to take the steps of a call one by one; the list above is all of it.
# ruff: noqa: SLF001

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from pybreaker import CircuitBreaker, CircuitBreakerState

__all__ = ["Driver", "is_pybreaker"]


def is_pybreaker(candidate: object) -> TypeGuard[CircuitBreaker]:
    """Return True for a ``pybreaker.CircuitBreaker``, without importing pybreaker."""
    return any(
        cls.__name__ == "CircuitBreaker" and cls.__module__ == "pybreaker"
        for cls in type(candidate).__mro__
    )


def twin_of(breaker: CircuitBreaker) -> CircuitBreaker:
    """Return a copy with new state.

    A storage other than pybreaker's in-memory one is shared on purpose, and stays shared.
    """
    from pybreaker import STATE_CLOSED, CircuitMemoryStorage  # noqa: PLC0415 - loaded by now

    twin = copy.copy(breaker)
    twin._lock = threading.RLock()
    twin._listeners = twin._listeners.copy()
    twin._excluded_exceptions = twin._excluded_exceptions.copy()
    if type(twin._state_storage) is CircuitMemoryStorage:
        twin._state_storage = CircuitMemoryStorage(STATE_CLOSED)
    twin._state = twin._create_new_state(twin.current_state)
    return twin


class Driver:
    """Takes the steps of a call one by one; nothing it calls can raise into the call.

    Args:
        breaker: The caller's breaker.
        report: Takes what a listener or an exclusion raised.
    """

    __slots__ = ("_report", "breaker", "lock")

    def __init__(self, breaker: CircuitBreaker, report: Callable[[Exception], None]) -> None:
        self.breaker = breaker
        self.lock = breaker._lock
        self._report = report

    @property
    def known(self) -> CircuitBreakerState:
        """The state object that was on when the storage was last asked."""
        return self.breaker._state

    def current(self) -> CircuitBreakerState:
        """Return the state object that is on; a listener may hear of a change made elsewhere."""
        try:
            return self.breaker.state
        except Exception as error:  # noqa: BLE001 - reported
            self._report(error)
            self._put(self.breaker.current_state)
            return self.known

    def time_open(self) -> float:
        """Seconds until an open circuit lets a probe in; 0 when it is due."""
        opened_at = self.breaker._state_storage.opened_at
        if opened_at is None:
            return 0.0
        # The storage keeps wall-clock time in UTC; older versions of pybreaker do not say so.
        since = datetime.now(UTC) - opened_at.replace(tzinfo=UTC)
        return max(0.0, self.breaker.reset_timeout - since.total_seconds())

    def half_open(self) -> CircuitBreakerState:
        """Let probes in; return the new state object."""
        self._move(self.breaker.half_open, "half-open")
        return self.current()

    def before_call(
        self, fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        """Tell the listeners that ``fn`` is about to be called."""
        self._tell(lambda listener: listener.before_call(self.breaker, fn, *args, **kwargs))

    def is_failure(self, failure: Exception) -> bool:
        """Return False for what the caller has excluded."""
        try:
            return self.breaker.is_system_error(failure)
        except Exception as error:  # noqa: BLE001 - reported
            self._report(error)
            return True

    def succeed(self, state: CircuitBreakerState) -> None:
        """Record a success in ``state``, which is on."""
        self.breaker._state_storage.reset_counter()
        self._move(state.on_success, "closed")
        self._tell(lambda listener: listener.success(self.breaker))

    def fail(self, state: CircuitBreakerState, failure: Exception) -> None:
        """Record a failure in ``state``, which is on."""
        trace = failure.__traceback__
        self.breaker._state_storage.increment_counter()
        self._tell(lambda listener: listener.failure(self.breaker, failure))
        self._move(partial(state.on_failure, failure), "open", failure)
        # It may have been raised once more on the way.
        failure.__traceback__ = trace

    def _move(
        self, step: Callable[[], object], target: str, failure: Exception | None = None
    ) -> None:
        from pybreaker import CircuitBreakerError  # noqa: PLC0415 - loaded by now

        try:
            step()
        except Exception as error:  # noqa: BLE001 - reported, but for the two signals
            # This is how pybreaker says that the circuit has opened; the second is its way with
            # ``throw_new_error_on_trip=False``. The caller gets the failure in both cases.
            if isinstance(error, CircuitBreakerError) or error is failure:
                return
            self._report(error)
            # A listener raised, and pybreaker tells its listeners before it writes the state down.
            self._put(target)

    def _put(self, name: str) -> None:
        self.breaker._state_storage.state = name
        self.breaker._state = self.breaker._create_new_state(name)

    def _tell(self, say: Callable[[Any], object]) -> None:
        # pybreaker types them by a variable that nothing binds.
        listeners: tuple[Any, ...] = self.breaker.listeners  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        for listener in listeners:
            try:
                say(listener)
            except Exception as error:  # noqa: BLE001 - reported
                self._report(error)
