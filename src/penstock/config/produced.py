"""Resources that Python holds: a value, several, a pool, or a function that makes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import islice
from typing import Any, cast

from penstock.config.listed import ListedResource
from penstock.config.plain import is_list, is_mapping
from penstock.config.problems import Mistake
from penstock.config.values import Pairs
from penstock.pools.given import MOST_RESOURCES
from penstock.pools.resource import is_resource
from penstock.stages.rotation.options import is_pool

__all__ = ["read_produced"]


def read_produced(entry: ListedResource) -> Pairs:
    """Yield id and value of what an entry names in Python; a pool is a value here.

    Raises:
        Mistake: A function failed or is async, or a value is missing. It shows no value.
    """
    found = _called(entry.python)
    for key, value in [(entry.id, found)] if entry.id is not None else _several(found):
        if value is None or (isinstance(value, str) and not value.strip()):
            what = "None" if value is None else "an empty text"
            raise Mistake(f"'python' names a resource that is {what}", field="python")
        if not entry.is_bare and (is_resource(value) or is_pool(value)):
            msg = "what 'python' names brings its own settings; leave those beside it out"
            raise Mistake(msg, field="python")
        yield key, value


def _called(found: Any) -> Any:
    # Other things that can be called may well be values: a client, say.
    if not _is_function(found):
        return found
    try:
        answer = found()
        # A generator is read here, too: it may fail as any function may.
        return _read(answer) if hasattr(answer, "__next__") else _at_once(answer)
    except Mistake:
        raise
    # What it says may have a key in it.
    except Exception as error:  # noqa: BLE001 - reported
        msg = f"the function that 'python' names raised {type(error).__name__}"
        raise Mistake(msg, field="python") from None


def _is_function(found: object) -> bool:
    return inspect.isroutine(found) or isinstance(found, partial)


def _read(answer: Any) -> list[Any]:
    # One more than a pool may have: its own check says so.
    return list(islice(answer, MOST_RESOURCES + 1))


def _at_once(answer: Any) -> Any:
    if inspect.iscoroutine(answer):
        answer.close()
    if inspect.isawaitable(answer) or inspect.isasyncgen(answer):
        raise Mistake("the function that 'python' names must not be async", field="python")
    return answer


def _several(found: Any) -> Iterable[tuple[str | None, Any]]:
    if is_mapping(found):
        return found.items()
    if isinstance(found, AbstractSet):
        msg = "'python' names a set, which has no order; resources are named by their place"
        raise Mistake(msg, field="python")
    if is_list(found) or isinstance(found, tuple):
        return [(None, value) for value in cast("Iterable[Any]", found)]
    return [(None, found)]
