"""One execution: what is called, on which attempt, by when, at what cost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from penstock import clock
from penstock.errors import PolicyError
from penstock.events import Event
from penstock.health import Gate
from penstock.verdict import Verdict

if TYPE_CHECKING:
    from penstock.pools.lease import Lease
    from penstock.pools.resource import Resource

__all__ = [
    "Call",
    "CallContext",
    "Cost",
    "Heeding",
    "Meter",
    "Overrides",
    "RefusedResult",
    "current_call",
    "current_lease",
    "current_resource",
    "enter_call",
    "leave_call",
]

Cost = float | Mapping[str, float]

_NO_TAGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What ``policy.using(...)`` sets for the calls made through it.

    Attributes:
        timeout: Seconds for the whole call; only ever tightens.
        attempts: Most attempts; only ever tightens.
        cost: Units for rate limits, or units by limit name; None takes the stage's own.
        priority: Higher is served first; 0 unless set.
        key: For stages that treat callers or shards apart.
        request_id: Put on every event of the call.
        tags: Free labels for observers.
    """

    timeout: float | None = None
    attempts: int | None = None
    cost: Cost | None = None
    priority: int = 0
    key: str | None = None
    request_id: str | None = None
    # Python 3.11 takes no default that cannot be hashed, and a mapping proxy cannot.
    tags: Mapping[str, str] = field(default_factory=lambda: _NO_TAGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What all calls of one policy (or one ``using`` view of it) share.

    Attributes:
        policy: The policy's name.
        classify: Failure to verdict.
        overrides: What ``using`` set.
        notify: Takes events; None when nobody observes, so that no event is built.
        discard: Takes a result that is going to be thrown away, so that it can be closed; sync or
            async.
        gate: The pool of resources that stands innermost, as the stages further out see it; None
            without rotation.
        limits: The rate limits that take a service's word for what is left of its quota.
        outside: Takes events that belong to no call (a circuit opened by hand); None when nobody
            wants them.
    """

    policy: str
    classify: Callable[[BaseException], Verdict]
    overrides: Overrides = Overrides()
    notify: Callable[[Event], None] | None = None
    discard: Callable[[Any], object] | None = None
    gate: Gate | None = None
    limits: tuple[Heeding, ...] = ()
    outside: Callable[[Event], None] | None = None

    @property
    def rotates(self) -> bool:
        """True when a pool of resources stands innermost."""
        return self.gate is not None


class RefusedResult(Exception):  # noqa: N818 - travels inside the pipeline, never leaves a policy
    """Carries a result whose verdict is a failure outward through the stages.

    ``Policy(classify_result=...)`` makes it; the outermost edge of the pipeline turns it back into
    the result, so that the caller gets the last response as it is.
    """

    def __init__(self, result: Any, verdict: Verdict) -> None:
        super().__init__(verdict.reason or verdict.kind.value)
        self.result = result
        self.verdict = verdict


class Heeding(Protocol):
    """A stage that holds calls back while a service says that its quota is used up."""

    def heed(self, headers: object) -> None:
        """Take what an answer's headers say."""
        ...


class Meter:
    """A cost already paid that can still be corrected; rate limits register one on the call."""

    __slots__ = ()

    def settle(self, actual: Cost) -> None:
        """Charge or give back the difference to ``actual``."""
        raise NotImplementedError


class Call:
    """One execution of one function; never shared between calls.

    Attributes:
        context: What the policy's calls share.
        fn: The operation, always returning an awaitable.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        attempt: The number of the attempt under way, from 1.
        attempts_inside: True while a retry stage further out may call again.
        deadline: Monotonic second by which the call must have ended; None without a timeout.
        notify: Takes the events of this call; None when nobody observes it. The context's, unless
            the call is traced: then what traces it stands in front.
        verdict: What the last failure (or result) meant; None before there was one.
        committed: True once a stream has handed its first item on: no attempt can follow.
        expiring: True while a timeout's cancel is on its way through the stages.
        starts: How many times the operation was started, over all attempts.
        lingering: Work that goes on after the attempt was given up (a thread cannot be cancelled);
            a stage that holds something releases it through ``lingering.when_idle(release)``.
        budget: Where added load (a retry, a hedge) must be paid; None without a budget stage.
        lease: The hold on a resource of the attempt under way; None between attempts and without
            rotation.
        resource: The resource of the latest attempt; None without rotation.
    """

    __slots__ = (
        "_judged",
        "args",
        "attempt",
        "attempts_inside",
        "budget",
        "committed",
        "context",
        "deadline",
        "expiring",
        "fn",
        "kwargs",
        "lease",
        "lingering",
        "meters",
        "notify",
        "resource",
        "starts",
        "verdict",
    )

    def __init__(
        self,
        context: CallContext,
        fn: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.context = context
        self.notify = context.notify
        self.fn = fn
        self.args = args
        self.kwargs = {} if kwargs is None else kwargs
        self.attempt = 1
        self.attempts_inside = False
        self.deadline: float | None = None
        self.verdict: Verdict | None = None
        self.committed = False
        self.expiring = False
        self.starts = 0
        self.budget: Any = None
        self.lingering: Any = None
        self.lease: Any = None
        self.resource: Any = None
        self.meters: list[Meter] | None = None
        self._judged = 0

    @property
    def operation(self) -> str:
        """The function's qualified name, for people to read."""
        fn: Any = self.fn
        while isinstance(fn, partial):
            fn = fn.func
        name = getattr(fn, "operation_name", None) or getattr(fn, "__qualname__", None)
        return name or type(fn).__qualname__

    @property
    def priority(self) -> int:
        """Higher is served first; 0 unless set."""
        return self.context.overrides.priority

    @property
    def cost(self) -> Cost | None:
        """Units for rate limits, or units by limit name; None takes the stage's own."""
        return self.context.overrides.cost

    @property
    def key(self) -> str | None:
        """What ``using(key=...)`` set."""
        return self.context.overrides.key

    @property
    def tags(self) -> Mapping[str, str]:
        """What ``using(tags=...)`` set."""
        return self.context.overrides.tags

    def judge(self, failure: BaseException) -> Verdict:
        """Return the failure's verdict; it is classified once, whichever stage asks first."""
        if self._judged != id(failure) or self.verdict is None:
            self.verdict = self.context.classify(failure)
            # Not the failure itself: its frames hold this call, and together they would be a cycle.
            # It lives for as long as anybody asks about it; whoever drops it forgets the verdict,
            # and stages of the user's, which may not know that, are bound with ``doubt_verdict``.
            self._judged = id(failure)
        return self.verdict

    def forget_verdict(self) -> None:
        """Drop the last verdict; whoever swallows a failure calls this."""
        self.verdict = None
        self._judged = 0

    def doubt_verdict(self) -> None:
        """Have the next failure judged anew, whatever it is; the verdict can still be read."""
        self._judged = 0

    def time_left(self, now: float) -> float | None:
        """Seconds until the deadline, below 0 when it has passed; None without one."""
        return None if self.deadline is None else self.deadline - now

    def settle(self, cost: float | None = None, **costs: float) -> None:
        """Tell the rate limits what this attempt really cost.

        More than was paid is charged as debt; less comes back.

        Args:
            cost: Units, for limits without names; finite and at least 0.
            costs: Units by limit name, for example ``tokens=812``.

        Raises:
            PolicyError: No rate limit of this call waits for its cost.
        """
        if not self.meters:
            msg = "no rate limit of this call takes a cost; give with_rate a cost= first"
            raise PolicyError(msg)
        for meter in self.meters:
            meter.settle(costs if cost is None else cost)

    def report(self, headers: object) -> None:
        """Tell whom it concerns what the headers of a good answer say is left of the quota.

        Where resources rotate that is the resource of this attempt, which rests once nothing is
        left; elsewhere the rate limits, which start nothing until there is more, 120 s at most.
        The transports of ``penstock.integrations`` do this by themselves.

        Args:
            headers: An answer's headers, of any kind; those that say nothing change nothing.
        """
        context, lease = self.context, self.lease
        if lease is not None:
            lease.report(headers=headers)
        elif context.gate is None:
            for limit in context.limits:
                limit.heed(headers)

    def emit(self, event_type: Callable[..., Event], **facts: Any) -> None:
        """Tell the observers; callers check ``notify`` first where it is hot."""
        notify = self.notify
        if notify is not None:
            notify(
                event_type(
                    policy=self.context.policy,
                    at=clock.now(),
                    request_id=self.context.overrides.request_id,
                    **facts,
                )
            )


_current: ContextVar[Call] = ContextVar("penstock_current_call")


def enter_call(call: Call) -> Token[Call]:
    """Make ``call`` the current one in this context; return what ``leave_call`` takes."""
    return _current.set(call)


def leave_call(token: Token[Call]) -> None:
    """Make the call before it the current one again."""
    try:
        _current.reset(token)
    except ValueError:
        # A stream was left to the collector, which closes it in another context: the one in which
        # this call was current is gone, or has no use for it.
        return


def current_call() -> Call:
    """Return the call that the running operation belongs to.

    It is set where it can be needed: under a rate limit that was given a cost, and under rotation.

    Raises:
        PolicyError: No such call is under way in this context.
    """
    try:
        return _current.get()
    except LookupError:
        msg = (
            "no call under way here; current_call() works under a rate limit with a cost "
            "and under rotation"
        )
        raise PolicyError(msg) from None


def current_lease() -> Lease:
    """Return the hold on a resource under which the running operation is called.

    Raises:
        PolicyError: No call of a pool is under way in this context.
    """
    lease = current_call().lease
    if lease is None:
        msg = "no resource is in use here; current_lease() works inside an operation under rotation"
        raise PolicyError(msg)
    return lease  # type: ignore[no-any-return]  # the pool's, which this layer does not know


def current_resource() -> Resource[Any]:
    """Return the resource that the running operation was given.

    Raises:
        PolicyError: No call of a pool is under way in this context.
    """
    return current_lease().resource
