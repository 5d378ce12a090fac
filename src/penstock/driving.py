"""A pipeline that goes on while its result is in use, driven by hand.

What hands something out and must know when it comes back (the items of a stream, a response whose
body is still to be read) runs its whole pipeline as one coroutine, which pauses where the thing is
handed out. That is how permits, leases and timers are held until it is closed. The coroutine is
driven inside the task of whoever uses the thing, so no task and no queue stands between them, and
whatever is bound to a task (a cancel scope, a timeout) stays in one. Its context variables are its
own: what is current inside of it (a call, a span) is not current for the reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from types import coroutine
from typing import Any, Self

from penstock.call import Call
from penstock.errors import PolicyError

__all__ = ["END", "Closed", "Driver", "HandOut", "HandingOperation"]

END: Any = object()
"""What a driver returns where the pipeline hands out nothing more."""

# A loop keeps a weak reference to its tasks only.
_finishing: set[asyncio.Task[None]] = set()


class HandOut:
    """What a pipeline yields to its driver instead of a future: the thing that it hands out."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def __repr__(self) -> str:
        # asyncio prints this in "Task got bad yield" when a custom stage starts a task.
        what = "what a stream or a transport hands out"
        return f"<{what}: a stage must not run call_next in a task of its own>"


class Closed(BaseException):
    """Thrown into the pipeline where it waits, when what it handed out is wanted no more."""


class HandingOperation:
    """An operation that hands something out before it ends.

    With that every call that it runs for is committed: no attempt can follow. That is one call, or
    one per policy where a fallback had another policy answer.

    Attributes:
        calls: Those, the outermost first.
        operation_name: For people to read.
    """

    __slots__ = ("calls", "operation_name")

    def __init__(self, name: str, calls: tuple[Call, ...] = ()) -> None:
        self.operation_name = name
        self.calls = calls

    def run_for(self, call: Call) -> Self:
        """Return an operation that runs for ``call`` too."""
        raise NotImplementedError

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do it; whatever is handed out is awaited as a ``HandOut``."""
        raise NotImplementedError

    def commit(self) -> None:
        """Note that something was handed out."""
        for call in self.calls:
            call.committed = True


class Driver:
    """Runs a coroutine from one thing handed out to the next, passing its futures to the loop.

    Attributes:
        ended: True once it has returned or raised.
        result: What it returned.
    """

    __slots__ = ("_context", "_coroutine", "_is_running", "ended", "result")

    def __init__(self, whole: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = whole
        self._context = copy_context()
        self._is_running = False
        self.ended = False
        self.result: Any = None

    @coroutine
    def run(self, thrown: BaseException | None = None) -> Generator[Any, Any, Any]:
        """Run up to the next thing handed out and return it; ``END`` when there is none.

        Raises:
            PolicyError: It is run from elsewhere at the moment.
        """
        if self._is_running:
            msg = "a stream is read by one task at a time"
            raise PolicyError(msg)
        if self.ended:
            return END
        self._is_running = True
        try:
            return (yield from self._steps(thrown))
        except BaseException:
            self.ended = True
            raise
        finally:
            self._is_running = False
            # Its traceback holds this frame: together they would be a cycle.
            del thrown

    async def finish(self, thrown: BaseException) -> None:
        """Run to the end, more than once where a custom stage calls again after every end."""
        try:
            while not self.ended:
                await self.run(thrown)
        finally:
            del thrown

    def finish_now(self, thrown: BaseException) -> BaseException | None:
        """Run to the end from where nothing can be awaited; what has to wait goes on in a task.

        Returns:
            What the pipeline has raised; None where it has returned, or goes on in a task.
        """
        finishing = self.finish(thrown)
        # As in ``run``: no cycle.
        del thrown
        try:
            step: Any = finishing.send(None)
        except StopIteration:
            return None
        except BaseException as error:  # noqa: BLE001 - as the docstring says
            return error
        try:
            task = asyncio.get_running_loop().create_task(_rest(finishing, step))
        except RuntimeError:
            # No loop is left to wait in.
            finishing.close()
            return None
        _finishing.add(task)
        task.add_done_callback(_finishing.discard)
        return None

    def _steps(self, thrown: BaseException | None) -> Generator[Any, Any, Any]:
        run, within = self._coroutine, self._context.run
        sent: Any = None
        while True:
            try:
                step: Any = within(run.send, sent) if thrown is None else within(run.throw, thrown)
            except StopIteration as stop:
                self.ended, self.result = True, stop.value
                return END
            finally:
                thrown = None
            if type(step) is HandOut:
                # The pipeline, which waits here, lets go of it.
                value, step.value = step.value, None
                return value
            sent = None
            try:
                sent = yield step
            except GeneratorExit:
                within(run.close)
                raise
            except BaseException as error:  # noqa: BLE001 - handed to the pipeline, whatever it is
                thrown = error


async def _rest(begun: Coroutine[Any, Any, None], step: Any) -> None:
    # A task wants a coroutine, and no generator that can be awaited.
    await _go_on(begun, step)


@coroutine
def _go_on(begun: Coroutine[Any, Any, None], step: Any) -> Generator[Any, Any, None]:
    # The coroutine waits for a future already: a task has to be given it before anything else.
    sent: Any = None
    while True:
        try:
            sent = yield step
        except GeneratorExit:
            begun.close()
            raise
        except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
            thrown: BaseException | None = error
        else:
            thrown = None
        try:
            step = begun.send(sent) if thrown is None else begun.throw(thrown)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001 - dropped, as ``finish_now`` says
            return
        finally:
            sent = thrown = None
