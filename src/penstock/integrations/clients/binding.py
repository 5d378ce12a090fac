"""Which function binds a client to the resources that a policy rotates over."""

from __future__ import annotations

from typing import Any, NoReturn

from penstock.errors import ConfigError
from penstock.integrations.clients.bound import Bind, url_of
from penstock.integrations.clients.known import KnownClient
from penstock.pools.origins import origin_of
from penstock.pools.resource import Resource

__all__ = ["binding"]


def binding(
    where: str, client: Any, known: KnownClient | None, gate: Any, bind: Bind | None
) -> Bind | None:
    """Return the user's ``bind``, or the SDK's own; None where nothing is to be bound.

    Args:
        where: How messages begin.
        client: What is wrapped.
        known: What is known of its SDK.
        gate: The policy's rotation; None for a policy that does not rotate.
        bind: What the user gave.

    Raises:
        ConfigError: The three do not go together, or a resource's origins leave the client out.
    """
    _check_kind(where, gate, bind)
    if gate is None or (bind is None and gate.options.inject is None):
        # Without injection the user reads the resource elsewhere: where the key is a function.
        return None
    resources = [member.resource for member in gate.state.members.values()]
    _refuse_elsewhere(where, url_of(client, known), resources)
    return bind or _default(where, client, known, resources)


def _check_kind(where: str, gate: Any, bind: Any) -> None:
    if bind is not None and not callable(bind):
        _refuse(where, f"'bind' must be a function of client and resource; got {bind!r}")
    if gate is None and bind is not None:
        _refuse(where, "'bind' needs resources; add .rotating(keys) to the policy")
    if gate is not None and gate.options.inject not in (None, "first"):
        _refuse(
            where,
            f"the pool hands its values over as '{gate.options.inject}', and a client's methods "
            "take no such argument; rotate without 'inject' and give wrap_client a 'bind'",
        )


def _default(
    where: str, client: Any, known: KnownClient | None, resources: list[Resource[Any]]
) -> Bind:
    kind = client.__class__.__name__
    if known is None or not known.binds(client):
        _refuse(
            where,
            f"how a {kind} takes a resource is not known; say it: wrap_client(client, "
            "bind=lambda client, resource: client.with_options(api_key=resource.value))",
        )
    if not all(isinstance(resource.value, str) for resource in resources):
        _refuse(
            where,
            f"resources that are no texts are no API keys for {kind}; say how it takes them: "
            "wrap_client(client, bind=lambda client, resource: ...)",
        )
    return lambda client, resource: known.bind(client, resource.value)


def _refuse_elsewhere(where: str, url: object, resources: list[Resource[Any]]) -> None:
    for resource in resources:
        if url is not None and not resource.is_for(url):
            target = origin_of(str(url)) or "a URL without a readable origin"
            allowed = ", ".join(resource.origins or ())
            _refuse(
                where, f"resource {resource.id!r} is for {allowed}, and the client is for {target}"
            )


def _refuse(where: str, why: str) -> NoReturn:
    raise ConfigError(f"{where}: {why}")
