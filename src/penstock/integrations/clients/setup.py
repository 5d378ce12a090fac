"""What ``policy.wrap_client`` checks before it wraps."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from penstock.errors import PolicyOrderWarning
from penstock.integrations.clients.binding import binding
from penstock.integrations.clients.bound import Bind
from penstock.integrations.clients.call import Root, Wrapping
from penstock.integrations.clients.known import KnownClient, known_client
from penstock.integrations.clients.paths import covering
from penstock.integrations.clients.proxy import stand_in
from penstock.order import level_of_caller
from penstock.stage import name_of

if TYPE_CHECKING:
    from penstock.policy import Policy

__all__ = ["wrapped_client"]


def wrapped_client(
    policy: Policy, client: Any, only: Iterable[str] | None, bind: Bind | None
) -> Any:
    """Return a stand-in for a client; see ``Policy.wrap_client``.

    Raises:
        TypeError: The client blocks, or is none.
        ConfigError: ``only``, ``bind`` or the resources do not go with it.
    """
    where = f"policy '{policy.name}': wrap_client"
    _check_client(where, client)
    known = known_client(client)
    _refuse_blocking(where, client, known)
    gate: Any = policy.bound()[1].gate
    wrapping = Wrapping(
        policy=policy,
        covers=covering(where, client, only, frozenset() if known is None else known.detours),
        known=known,
        bind=binding(where, client, known, gate, bind),
        is_ours=bind is None,
        injects=gate is not None and gate.options.inject == "first",
        # Whom the headers of good answers are of use to.
        tells=gate is not None or any(name_of(stage) == "rate_limit" for stage in policy.stages),
    )
    _warn_of_own_retries(where, policy, client, known)
    return stand_in(Root(client, wrapping))


def _check_client(where: str, client: Any) -> None:
    if client is None or isinstance(client, type | str) or inspect.isroutine(client):
        raise TypeError(f"{where} takes the client of an SDK; got {client!r}")


def _refuse_blocking(where: str, client: Any, known: KnownClient | None) -> None:
    instead = None if known is None else known.instead_of_sync(client)
    if instead is not None:
        kind = client.__class__.__name__
        raise TypeError(
            f"{where}: {kind} blocks the event loop while it waits; wrap {instead}, "
            "or call it from code without a loop: policy.run_sync(client.method, ...)"
        )


def _warn_of_own_retries(
    where: str, policy: Policy, client: Any, known: KnownClient | None
) -> None:
    own = None if known is None else known.own_retries(client)
    attempts = math.prod(_attempts(stage) for stage in policy.stages)
    if own is None or own.requests <= 1 or attempts <= 1:
        return
    worst = (
        "without bound"
        if math.inf in (attempts, own.requests)
        else f"{attempts:g} x {own.requests} = {attempts * own.requests:g} requests at worst"
    )
    msg = (
        f"{where}: {client.__class__.__name__} retries by itself, and so does the policy: {worst}; "
        f"leave it to the policy: {own.switch_off}"
    )
    warnings.warn(msg, PolicyOrderWarning, stacklevel=level_of_caller())


def _attempts(stage: Any) -> float:
    if name_of(stage) != "retry" or not hasattr(stage, "options"):
        return 1
    attempts = stage.options.attempts
    return math.inf if attempts is None else attempts
