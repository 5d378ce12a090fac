"""What a method sees of its call where the worker lives, and what it can tell it from there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock import clock
from penstock.call import Call, CallContext, Cost, Overrides
from penstock.classify import classify
from penstock.errors import PolicyError
from penstock.hints import headers_of
from penstock.pools.lease import Lease
from penstock.pools.resource import Resource

__all__ = ["Carrier", "Place", "RemoteCall", "Verb", "attach_trace", "carrier_of", "play"]

Verb = tuple[str, tuple[Any, ...]]
"""What a method told its call: ``settle``, ``cooldown``, ``disable`` or ``report``, and how."""

# Imported by whatever uses the traces of the API.
_API = "opentelemetry.trace"


class Carrier(NamedTuple):
    """What a call brings along to the place where the worker lives.

    Attributes:
        attempt: The number of the attempt, from 1.
        resource: The worker's id in its pool.
        request_id: What ``using(request_id=...)`` set.
        tags: What ``using(tags=...)`` set.
        time_left: Seconds until the deadline; None without one.
        takes_cost: Whether a rate limit waits to be told the call's cost.
        trace: OpenTelemetry's headers of the attempt; None where no SDK is set.
    """

    attempt: int = 1
    resource: str | None = None
    request_id: str | None = None
    tags: Mapping[str, str] | None = None
    time_left: float | None = None
    takes_cost: bool = False
    trace: dict[str, str] | None = None


def carrier_of(call: Call, resource: str | None = None) -> Carrier | None:
    """Return what a call brings along; None where there is nothing to tell.

    Args:
        call: Whose it is.
        resource: The worker's id, where the other side does not know it.
    """
    overrides = call.context.overrides
    trace = _trace_headers() if _API in sys.modules else None
    if (
        call.attempt == 1
        and call.deadline is None
        and call.meters is None
        and trace is None
        and resource is None
        and overrides.request_id is None
        and not overrides.tags
    ):
        return None
    return Carrier(
        attempt=call.attempt,
        resource=resource,
        request_id=overrides.request_id,
        tags=dict(overrides.tags),
        time_left=call.time_left(clock.now()),
        takes_cost=bool(call.meters),
        trace=trace,
    )


_SERIAL = 1

_FIELDS = frozenset(Call.__slots__)


class Place:
    """What leases know of the worker, where it lives.

    Attributes:
        resource: The worker as a resource.
        leases: A use is active for as long as it can be asked.
    """

    __slots__ = ("leases", "resource")

    def __init__(self, worker: Any, id_: str) -> None:
        self.resource: Resource[Any] = Resource(worker, id_)
        self.leases = {_SERIAL}


class RemoteCall(Call):
    """Stands for a call where the worker lives.

    What the method tells it is kept in ``verbs``, to be played on the real call before that one
    ends.
    """

    __slots__ = ("_carrier", "_is_filled", "_place", "_until", "verbs")

    def __init__(self, fn: Any, place: Place, carrier: Carrier | None) -> None:
        # The rest is filled in when it is asked for: most methods never do.
        self.fn = fn
        self.verbs: list[Verb] = []
        self._is_filled = False
        self._place = place
        self._carrier = carrier
        self._until: float | None = None
        if carrier is not None and carrier.time_left is not None:
            self._until = clock.now() + carrier.time_left

    def __getattr__(self, name: str) -> Any:
        """Fill in what a call has; called for what is not there alone."""
        if self._is_filled or name not in _FIELDS:
            raise AttributeError(name)
        self._is_filled = True
        self._fill()
        return getattr(self, name)

    def _fill(self) -> None:
        carrier, place = self._carrier, self._place
        super().__init__(_CONTEXT if carrier is None else _context_of(carrier), self.fn)
        candidate: Any = place
        self.resource = place.resource
        self.lease = Lease(_Told(self.verbs), candidate, _SERIAL, 0.0)
        self.deadline = self._until
        if carrier is not None:
            self.attempt = carrier.attempt
            self.meters = [] if carrier.takes_cost else None

    def settle(self, cost: float | None = None, **costs: float) -> None:
        """Tell the rate limits what this attempt really cost, once it has ended; see ``Call``."""
        if self.meters is None:
            msg = "no rate limit of this call takes a cost; give with_rate a cost= first"
            raise PolicyError(msg)
        actual: Cost = costs if cost is None else cost
        self.verbs.append(("settle", (actual,)))


def play(call: Call, verbs: tuple[Verb, ...]) -> None:
    """Tell the real call what the method has told the one that stood for it.

    Raises:
        ConfigError: A number is not allowed; all that came before it has been told.
        PolicyError: The call has no such thing.
    """
    for name, arguments in verbs:
        if name == "settle":
            for meter in call.meters or ():
                meter.settle(*arguments)
        elif name == "report_headers":
            call.lease.report(headers=arguments[0])
        else:
            getattr(call.lease, name)(*arguments)


def attach_trace(carrier: Carrier | None) -> None:
    """Make the attempt's span the current one in this context, which must not be used again."""
    if carrier is None or carrier.trace is None:
        return
    try:
        from opentelemetry.context import attach  # noqa: PLC0415 - optional, and slow
        from opentelemetry.propagate import extract  # noqa: PLC0415
    except ImportError:
        return
    attach(extract(carrier.trace))


def _trace_headers() -> dict[str, str] | None:
    # What the API's own getter looks at first; that one would make a provider.
    if getattr(sys.modules[_API], "_TRACER_PROVIDER", None) is None:
        return None
    from opentelemetry.propagate import inject  # noqa: PLC0415 - slow, and rarely wanted

    headers: dict[str, str] = {}
    inject(headers)
    return headers or None


def _context_of(carrier: Carrier) -> CallContext:
    overrides = Overrides(request_id=carrier.request_id, tags=carrier.tags or {})
    return CallContext(policy=_CONTEXT.policy, classify=classify, overrides=overrides)


_CONTEXT = CallContext(policy="worker", classify=classify)


class _Told:
    """Stands for the pool: keeps what a lease tells it."""

    __slots__ = ("_verbs",)

    def __init__(self, verbs: list[Verb]) -> None:
        self._verbs = verbs

    def cool_lease(self, lease: Lease, seconds: float | None, reason: str | None) -> None:
        del lease
        self._verbs.append(("cooldown", (seconds, reason)))

    def disable_lease(self, lease: Lease, reason: str | None) -> None:
        del lease
        self._verbs.append(("disable", (reason,)))

    def report_lease(
        self, lease: Lease, remaining: float | None, resets_in: float | None, headers: object
    ) -> None:
        del lease
        if headers is None:
            self._verbs.append(("report", (remaining, resets_in)))
        else:
            # Of headers of any kind, those that count; others may hold secrets.
            self._verbs.append(("report_headers", (headers_of(headers),)))
