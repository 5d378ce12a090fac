"""Keys of a pool, put into requests: only into those that go where the key belongs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

from penstock.errors import ConfigError
from penstock.policy import Policy
from penstock.pools.resource import Resource

__all__ = ["KeyHeader"]


class KeyHeader:
    """Where the key of a resource stands in a request, and which requests may have one.

    A redirect to another host is a request of its own to whoever sends it: a key that was put into
    every request would be delivered there.

    Args:
        policy: What brings the resources; it need not rotate.
        header: The header's name; None where the key is put elsewhere, or nowhere.
        form: The header's value, with ``{}`` where the key stands, for example ``"Bearer {}"``.
        origins: Where keys may be sent, each as ``"scheme://host"`` or ``"scheme://host:port"``;
            None takes the ``origins`` of the resources.

    Raises:
        ConfigError: The policy rotates, keys are to be put in, and nobody says where they may go;
            or an origin cannot be read.
    """

    __slots__ = ("_form", "_header", "_origins", "_rotation")

    def __init__(
        self,
        policy: Policy,
        header: str | None,
        form: str = "{}",
        origins: Iterable[str] | None = None,
    ) -> None:
        # The resource that is made for it reads the origins as a resource of the user's would.
        self._origins = None if origins is None else Resource(None, origins=origins)
        self._rotation: Any = policy.bound()[1].gate
        self._header = header
        self._form = form
        if header is not None:
            self._check(header)

    @property
    def puts(self) -> bool:
        """Whether there is a header to put keys into."""
        return self._header is not None

    def covers(self, url: object) -> bool:
        """Whether the policy is for requests to this URL; others are sent without it."""
        if self._origins is not None:
            return self._origins.is_for(url)
        return self._rotation is None or any(r.is_for(url) for r in self._resources())

    def put(
        self, headers: MutableMapping[str, str], resource: Resource[Any] | None, url: object
    ) -> None:
        """Put the key into the headers of a request, in place of one that is there.

        Args:
            headers: Those of the request.
            resource: The attempt's; None leaves the headers alone.
            url: Where the request goes.

        Raises:
            PolicyError: The key must not be sent there. The message names the origin alone.
        """
        if self._header is None or resource is None:
            return
        value: Any = resource.value_for(url)
        headers[self._header] = self._form.format(value)

    def _resources(self) -> Iterator[Resource[Any]]:
        # A copy: threads without a loop ask too, while the loop may add to the pool.
        members = () if self._rotation is None else [*self._rotation.state.members.values()]
        return (member.resource for member in members)

    def _check(self, header: str) -> None:
        if "{}" not in self._form:
            msg = f"transport: the form of header {header!r} must have {{}} where the key stands"
            raise ConfigError(msg)
        if self._origins is not None:
            return
        for resource in self._resources():
            if resource.origins is None:
                msg = (
                    f"transport: say where resource {resource.id!r} may be sent, or a "
                    "redirect takes the key to another host: give the transport "
                    'origins=["https://..."], or the resource'
                )
                raise ConfigError(msg)
