"""Whether a call is traced: looked up per call, for an SDK may be set after the policy was built.

``penstock.telemetry`` is imported by the first call that finds OpenTelemetry imported; a program
that does not use it pays for a look into ``sys.modules`` and no more.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from penstock.call import Call
from penstock.events import Event
from penstock.observe import Frames, observe_pool
from penstock.stage import Handler

__all__ = ["CREWS", "LIVE", "Nest", "switching", "telling", "watch_pool"]

# Makes a pipeline with these frames; always the same one for the same frames.
Nest = Callable[[Frames], Handler]

_log = logging.getLogger("penstock")

# Imported by whatever uses the traces, the metrics or the logs of the API.
_API = "opentelemetry.context"

_modules = sys.modules

# The pipelines of all policies that have been called and are still in use; gauges look at them.
LIVE: WeakSet[Any] = WeakSet()

# The runs of all pools of workers that are still in use; as above.
CREWS: WeakSet[Any] = WeakSet()

# By policy name: a program may make a policy per request over one pool.
_watched: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


class _Telemetry:
    """The entrances of ``penstock.telemetry``, once it has been imported."""

    __slots__ = ("is_on", "tell", "traced")

    is_on: Callable[[], bool]
    tell: Callable[[Event], None]
    traced: Callable[[Call, Handler, Nest], Coroutine[Any, Any, Any]]

    def __init__(self) -> None:
        self.is_on = self._load

    def _load(self) -> bool:
        try:
            # Above this module, and imported by those who have imported OpenTelemetry themselves.
            from penstock.telemetry import is_on, tell, traced  # noqa: PLC0415
        except Exception:  # noqa: BLE001 - telemetry changes nothing for the call
            _log.exception("penstock.telemetry could not be imported; no call is traced")
            self.is_on = _never
            return False
        self.tell, self.traced = tell, traced
        # Last: another thread may look at any time.
        self.is_on = is_on
        return is_on()


def _never() -> bool:
    return False


_telemetry = _Telemetry()


def switching(plain: Handler, nest: Nest) -> Handler:
    """Return a pipeline that is traced while an OpenTelemetry provider is set.

    Args:
        plain: The pipeline as it is without.
        nest: Makes one with frames of telemetry's.
    """

    def handler(call: Call) -> Coroutine[Any, Any, Any]:
        if _API in _modules and _telemetry.is_on():
            return _telemetry.traced(call, plain, nest)
        return plain(call)

    return handler


def telling(notify: Callable[[Event], None] | None) -> Callable[[Event], None]:
    """Return what takes events that belong to no call: for telemetry and the observers."""

    def tell(event: Event) -> None:
        if _API in _modules and _telemetry.is_on():
            _telemetry.tell(event)
        if notify is not None:
            notify(event)

    return tell


def watch_pool(pool: Any, policy: str) -> None:
    """Tell telemetry about every change in a pool that a policy rotates over; once per name."""
    names = _watched.setdefault(pool, set())
    if policy not in names:
        names.add(policy)
        observe_pool(pool, policy, telling(None))
