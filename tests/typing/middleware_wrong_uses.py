"""What type checkers must report there: each line's ignore must be needed."""

from __future__ import annotations

from penstock import Policy
from penstock.integrations.aiohttp import PolicyMiddleware
from penstock.integrations.grpc import interceptors

policy = Policy("api")

PolicyMiddleware(policy, replay="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
PolicyMiddleware(policy, classify="opnai")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
PolicyMiddleware(policy.call)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
interceptors(policy, target=443)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
