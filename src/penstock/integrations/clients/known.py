"""What ``policy.wrap_client`` knows of the SDKs: one small class for each, found by module name.

Nothing is imported that the user's program has not imported already: the row of an SDK is loaded
when one of its clients is wrapped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, NamedTuple

__all__ = ["KnownClient", "OwnRetries", "known_client"]

# The first of a class's modules that begins like one of these names its row: the module of this
# package that has it, as ``CLIENT``.
_ROWS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google.genai": "google_genai",
    "aiobotocore": "botocore",
    "botocore": "botocore",
    "redis": "redis",
}


class OwnRetries(NamedTuple):
    """What a client does by itself before anybody sees a failure.

    Attributes:
        requests: Most requests of one call, the first included, from 1 to infinity; from 2 on
            it retries.
        switch_off: The line of Python that makes the client leave retries to the policy, for
            example ``AsyncOpenAI(max_retries=0)``.
    """

    requests: float
    switch_off: str


class KnownClient:
    """What penstock knows of the clients of one SDK; a row overrides what its SDK has.

    The defaults are those of a client that nothing is known of. Every method takes the user's own
    client and changes nothing of it. A row is found by module name, and its module imports the SDK
    at most in functions.
    """

    __slots__ = ()

    # How a path through the client may go on with the same methods in another form:
    # ``chat.completions.with_raw_response.create`` is ``chat.completions.create`` for ``only=``.
    detours: frozenset[str] = frozenset()

    def owns(self, client: Any) -> bool:
        """Answer whether this is a client itself, and not a part of one or an answer."""
        raise NotImplementedError

    def instead_of_sync(self, client: Any) -> str | None:
        """Return what to wrap in place of a client that blocks: ``AsyncOpenAI(...)``."""

    def instead_of_blocking(self, client: Any, path: tuple[str, ...]) -> str | None:
        """Return the dotted path to use instead, where a method of the client blocks."""

    def own_retries(self, client: Any) -> OwnRetries | None:
        """Return how the client retries by itself; None where it does not."""

    def url(self, client: Any) -> object | None:
        """Return the URL that the client sends its key to; None where it has none of its own."""

    def binds(self, client: Any) -> bool:  # noqa: ARG002 - for those who override it
        """Answer whether ``bind`` knows how this client takes a key."""
        return False

    def bind(self, client: Any, value: str) -> Any:
        """Return a client like this one that uses another key, where ``binds`` says so.

        Called once per key while it is in use; what can be shared (connections) is shared.
        """

    async def release(self, bound: Any) -> None:
        """Close what a client made by ``bind`` does not share with others."""

    def telling(
        self, owner: Any, name: str, tell: Callable[[object], None]
    ) -> Callable[..., Awaitable[Any]] | None:
        """Return the method ``owner.name`` in a form that hands an answer's headers to ``tell``.

        Args:
            owner: The client, or the part of it that has the method.
            name: The method.
            tell: Takes the headers of a good answer; never raises.

        Returns:
            What is called in the method's place, with the same result; None where the SDK gives
            nobody the headers of an answer.
        """


def known_client(client: object) -> KnownClient | None:
    """Return the row for a client, or for a subclass of one; None for what is not known."""
    for base in client.__class__.__mro__:
        for prefix, row in _ROWS.items():
            if f"{base.__module__}.".startswith(f"{prefix}."):
                known: KnownClient = import_module(f"penstock.integrations.{row}").CLIENT
                return known if known.owns(client) else None
    return None
