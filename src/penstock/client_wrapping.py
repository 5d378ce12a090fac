"""``policy.wrap_client``: an SDK's client whose calls run under the policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from penstock.pools.resource import Resource

__all__ = ["ClientWrapping", "plain"]

C = TypeVar("C")


class ClientWrapping:
    """``wrap_client``, for whatever can be called as a policy."""

    __slots__ = ()

    def wrap_client(
        self,
        client: C,
        *,
        only: Iterable[str] | None = None,
        bind: Callable[[C, Resource[Any]], C] | None = None,
    ) -> C:
        """Return a stand-in for ``client`` whose calls run under the policy.

        It looks like the client, to type checkers and to ``isinstance``. Whether a method is
        covered is decided when it is called: one that returns an awaitable runs under the policy,
        everything else is returned as it is. So are async context managers
        (``messages.stream(...)``), which are opened by
        ``policy.stream(lambda: client.messages.stream(...))``. Copies (``with_options(...)``) are
        stand-ins too. The client itself is not changed.

        Args:
            client: An SDK's client for asyncio. It should leave retries to the policy; a warning
                says so where it does not.
            only: What to cover, as dotted paths: ``"chat.completions.create"``, or ``"chat.*"`` for
                all below; None covers every method.
            bind: Under ``rotating(...)``: returns the client to use with a resource, for example
                ``lambda client, key: client.with_options(api_key=key.value)``. Called once per
                resource. None binds texts as API keys where the SDK is known (openai, anthropic,
                google-genai).

        Raises:
            TypeError: The client blocks, or is none.
            ConfigError: ``only`` has a path that the client does not have, a policy that rotates
                has no ``bind`` for this client (or one that does not rotate has one), or a
                resource's ``origins`` leave out the server of the client.
        """
        # Above this module, and imported by those who wrap clients.
        from penstock.integrations.clients.setup import wrapped_client  # noqa: PLC0415

        policy: Any = self
        wrapped: C = wrapped_client(policy, client, only, bind)
        return wrapped


def plain(fn: Any, stages: Sequence[Any]) -> Any:
    """Return what a stream under these stages opens for ``fn``.

    A method of a client that is wrapped with the same stages leaves them to the stream: the stages
    twice would be attempts times attempts.
    """
    kind: type[Any] = type(fn)  # pyright: ignore[reportUnknownVariableType]  # of anything at all
    undressed = getattr(kind, "__penstock_plain__", None)
    return fn if undressed is None else undressed(fn, tuple(stages))
