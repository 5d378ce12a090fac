"""Transactions of PostgreSQL: each attempt is a whole one, on a connection of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from penstock import clock
from penstock.call import Call
from penstock.driving import HandingOperation
from penstock.entering import Operation, enter
from penstock.hints import peek
from penstock.operation import name_of
from penstock.policy import Policy

__all__ = ["Acquires", "Begins", "transaction"]

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")

# The server reports a time-out of its own by this much later, so that the policy's comes first.
_BEHIND = 0.1

# SQLSTATEs that do not tell whether a COMMIT was done; every other one says that it was not.
_UNTOLD = ("08", "57P", "58", "XX", "40003")

_NOTE = "the connection was lost at COMMIT: the transaction may have been done or not"


class Begins(Protocol[C_co]):
    """SQLAlchemy's ``AsyncEngine`` and ``async_sessionmaker``."""

    def begin(self) -> AbstractAsyncContextManager[C_co]:
        """Open a connection and a transaction, and commit it in the end."""
        ...


class Acquires(Protocol):
    """asyncpg's ``Pool``."""

    def acquire(self) -> Any:
        """Lend a connection."""
        ...


@overload
async def transaction(
    policy: Policy,
    source: Begins[C],
    fn: Callable[Concatenate[C, P], Awaitable[R]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R: ...
@overload
async def transaction(
    policy: Policy,
    source: Acquires,
    fn: Callable[Concatenate[Any, P], Awaitable[R]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R: ...
async def transaction(
    policy: Policy, source: Any, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any
) -> Any:
    """Run ``fn(connection, *args, **kwargs)`` in a transaction, as often as the policy asks for.

    Each attempt takes a connection, begins, calls ``fn`` and commits; a failure rolls back and
    gives the connection back before the next one. Where the connection is lost while COMMIT is
    under way nobody knows whether it was done: no attempt follows, and the error has a note.

    The time that is left of the policy's is handed down as ``statement_timeout``, for the case that
    a cancel does not reach the server.

    Args:
        policy: One that does not rotate.
        source: An asyncpg ``Pool``, or SQLAlchemy's ``AsyncEngine`` or ``async_sessionmaker``.
        fn: Takes the connection (or session) first, and neither commits nor rolls back.
        args: Its other arguments.
        kwargs: Its keyword arguments.

    Raises:
        TypeError: ``source`` is none of these.
        PolicyError: The policy refused the call, or it timed out.
        Exception: What the last attempt raised.
    """
    handler, context = policy.bound()
    operation = _Transaction(_begin_of(source), fn)
    return await enter(handler, context, policy.stages, Operation(operation, args, kwargs))


class _Transaction(HandingOperation):
    """Runs a function in a transaction of its own at every attempt."""

    __slots__ = ("_begin", "_fn")

    def __init__(
        self,
        begin: Callable[[], AbstractAsyncContextManager[Any]],
        fn: Callable[..., Awaitable[Any]],
        calls: tuple[Call, ...] = (),
    ) -> None:
        super().__init__(name_of(fn), calls)
        self._begin = begin
        self._fn = fn

    def run_for(self, call: Call) -> _Transaction:
        """Return an operation that runs for ``call`` too."""
        return type(self)(self._begin, self._fn, (*self.calls, call))

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make one attempt."""
        is_ending = False
        try:
            async with _candid(self._begin()) as connection:
                await _hand_down(self.calls[-1], connection)
                result = await self._fn(connection, *args, **kwargs)
                is_ending = True
        except BaseException as failure:
            if is_ending and not _is_undone(failure):
                failure.add_note(_NOTE)
                self.commit()
            raise
        return result


@asynccontextmanager
async def _candid(whole: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any]:
    # On a connection that is lost the rollback fails, too, and would hide what has failed first.
    first: BaseException | None = None
    try:
        async with whole as connection:
            try:
                yield connection
            except BaseException as failure:
                first = failure
                raise
    except Exception as failure:
        if first is None or failure is first:
            raise
    try:
        if first is not None:
            raise first
    finally:
        # Its frames hold this one: together they would be a cycle.
        del first


def _begin_of(source: Any) -> Callable[[], AbstractAsyncContextManager[Any]]:
    if callable(getattr(source, "begin", None)):
        begin: Callable[[], AbstractAsyncContextManager[Any]] = source.begin
        return begin
    if callable(getattr(source, "acquire", None)):
        return lambda: _acquired(source)
    what = "an asyncpg Pool, an AsyncEngine or an async_sessionmaker"
    msg = f"transaction takes {what}; got {source!r}"
    raise TypeError(msg)


@asynccontextmanager
async def _acquired(pool: Any) -> AsyncGenerator[Any]:
    async with pool.acquire() as connection, connection.transaction():
        yield connection


async def _hand_down(call: Call, connection: Any) -> None:
    left = call.time_left(clock.now())
    if left is None:
        return
    statement = f"SET LOCAL statement_timeout = {max(1, round((left + _BEHIND) * 1000))}"
    if hasattr(connection, "sync_session"):
        connection = await connection.connection()
    await getattr(connection, "exec_driver_sql", connection.execute)(statement)


def _is_undone(failure: BaseException) -> bool:
    state = peek(failure, "sqlstate") or peek(peek(failure, "orig"), "sqlstate")
    return isinstance(state, str) and not state.startswith(_UNTOLD)
