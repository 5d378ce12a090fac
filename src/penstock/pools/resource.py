"""Resource: a thing that a call uses and the pool rotates over, its value kept out of sight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, NoReturn, Self, SupportsIndex, TypeGuard, TypeVar, cast

from penstock.errors import ConfigError, PolicyError
from penstock.options import Number, Rule, Whole
from penstock.pools.origins import ALLOWED_ORIGIN, origin_of, read_origin

__all__ = ["WEIGHT", "Resource", "harmless", "is_resource"]

T = TypeVar("T")

# Wide enough for any share, and no sum or quotient of them leaves what a float can hold.
WEIGHT = Number(minimum=1e-6, maximum=1e6)

_FIELDS = frozenset(("group", "id", "max_in_flight", "origins", "tags", "value", "weight"))


class Resource(Generic[T]):
    """One API key, proxy, GPU worker, session: anything that calls can take turns with.

    Its fields cannot be changed, ``copy`` and ``deepcopy`` return it itself (a copied key has no
    quota of its own), and it cannot be pickled: that would write the value out.

    Args:
        value: What the operation needs. It appears in no repr, log, error, event or span.
        id: The name in logs, events, errors and snapshots; a text that is not empty. None lets the
            pool name it by its place: ``"1"``, ``"2"``, ... It is never made from the value: the
            hash of a key tells something of the key.
        max_in_flight: Most uses at once, from 1; None for no bound.
        weight: Share of the calls where the pool picks by weight, from 1e-6 to 1e6.
        origins: Where the value may be sent, each as ``"scheme://host"`` or
            ``"scheme://host:port"``; None for anywhere.
        tags: Free labels.
        group: Resources of one group share a quota (keys of one account) and cool down together.

    Raises:
        ConfigError: A field has a value that is not allowed.
    """

    __slots__ = ("__weakref__", *_FIELDS)

    value: T
    id: str | None
    max_in_flight: int | None
    weight: float
    origins: tuple[str, ...] | None
    tags: tuple[str, ...]
    group: str | None

    def __init__(  # noqa: PLR0913, PLR0917 - the fields of a resource, most of which are left out
        self,
        value: T,
        id: str | None = None,  # noqa: A002 - the word of the field
        max_in_flight: int | None = None,
        weight: float = 1,
        origins: Iterable[str] | None = None,
        tags: Iterable[str] = (),
        group: str | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "value", value)
        put(self, "id", None if id is None else _text("id", id))
        put(self, "max_in_flight", _ruled("max_in_flight", Whole(), max_in_flight, optional=True))
        put(self, "weight", _ruled("weight", WEIGHT, weight))
        put(self, "origins", None if origins is None else _origins(origins))
        put(self, "tags", tuple(_text("tags", tag) for tag in _items("tags", tags)))
        put(self, "group", None if group is None else _text("group", group))

    def is_for(self, url: object) -> bool:
        """Answer whether the value may be sent to a URL.

        Scheme, host and port have to be those of one of the origins. Without ``origins`` it may
        be sent anywhere. Ask again at every redirect.

        Args:
            url: A text, or an object whose ``str`` is the URL, as httpx's and yarl's.
        """
        return self.origins is None or origin_of(str(url)) in self.origins

    def value_for(self, url: object) -> T:
        """Return the value if it may be sent to a URL.

        Args:
            url: As for ``is_for``.

        Raises:
            PolicyError: It may not. The message has the origin of the URL and nothing else of it.
        """
        if self.is_for(url):
            return self.value
        target = origin_of(str(url)) or "a URL without a readable origin"
        allowed = ", ".join(self.origins or ())
        raise PolicyError(f"resource {self.id!r} must not be sent to {target}; it is for {allowed}")

    def name(self, id: str) -> None:  # noqa: A002 - the word of the field
        """Give the resource its id; for the pool, once.

        Raises:
            ConfigError: It has another id, or this one is empty or no text.
        """
        if self.id is None:
            object.__setattr__(self, "id", _text("id", id))
        elif self.id != id:
            raise ConfigError(f"resource {self.id!r} cannot be named {harmless(id)}: it has an id")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIELDS:
            raise AttributeError(
                f"'{name}' of resource {self.id!r} cannot be changed; make another"
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIELDS:
            raise AttributeError(f"'{name}' of resource {self.id!r} cannot be deleted")
        super().__delattr__(name)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        msg = (
            f"resource {self.id!r} cannot be pickled: its value would be written out; send its id, "
            "or its '.value' where that is what you mean"
        )
        raise TypeError(msg)


def is_resource(value: object) -> TypeGuard[Resource[Any]]:
    """Whether this is a resource; a plain ``isinstance`` leaves its type unknown to checkers."""
    return isinstance(value, Resource)


def harmless(value: object) -> str:
    """Return what an error may show of a value that may be a secret in the wrong place.

    Numbers, booleans and None are shown as they are, of everything else the type.
    """
    if value is None or isinstance(value, bool | float):
        return repr(value)
    # An int of thousands of digits has no repr.
    if isinstance(value, int) and abs(value) < 10**18:
        return repr(value)
    return "an empty text" if value == "" else f"a value of type {type(value).__name__}"


def _refused(field: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"resource: '{field}' must be {allowed}; got {harmless(value)}")


def _ruled(field: str, rule: Rule, value: object, *, optional: bool = False) -> Any:
    if value is None and optional:
        return None
    try:
        return rule.read(value)
    except ValueError:
        raise _refused(field, value, rule.allowed) from None


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        what = "texts that are not empty" if field == "tags" else "a text that is not empty"
        raise _refused(field, value, what)
    return value


def _origins(given: object) -> tuple[str, ...]:
    read: list[str] = []
    for place, text in enumerate(_items("origins", given), 1):
        try:
            read.append(read_origin(text))
        except ValueError:
            # Not shown: a proxy's address may have its password in it.
            msg = f"resource: number {place} of 'origins' must be {ALLOWED_ORIGIN}"
            raise ConfigError(msg) from None
    if not read:
        raise ConfigError("resource: 'origins' must not be empty; leave it out to allow any")
    return tuple(dict.fromkeys(read))


def _items(field: str, given: object) -> Iterable[object]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise _refused(field, given, "a list of texts")
    return cast("Iterable[object]", given)
