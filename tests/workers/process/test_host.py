"""The side on which a worker lives runs methods and collects what they tell their call."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from penstock.call import current_call, current_lease, current_resource
from penstock.errors import PolicyError
from penstock.testing import run
from penstock.workers.host import Answer, Host
from penstock.workers.remote_call import Carrier
from penstock.workers.target import Target, target_of

pytestmark = pytest.mark.virtual_time

Seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


class Model:
    """A worker with sync and async methods and the whole life cycle."""

    def __init__(self, name: str, *, loud: bool = False) -> None:
        self.name = name
        self.loud = loud
        self.log: list[object] = []

    async def start(self, index: int) -> None:
        """Note the place."""
        await asyncio.sleep(1)
        self.log.append(("start", index))

    def stop(self) -> None:
        """Note it."""
        self.log.append("stop")

    async def healthy(self) -> bool:
        """Be healthy while nothing is wrong."""
        return "wrong" not in self.log

    def double(self, number: int) -> int:
        """Return twice as much."""
        return number * 2

    async def slow(self, number: int) -> int:
        """Return the same, later."""
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            self.log.append("cleaned up")
            raise
        return number

    def later(self, number: int) -> Coroutine[Any, Any, int]:
        """Return an awaitable from a plain method."""
        return self.slow(number)

    def fail(self, error: BaseException) -> None:
        """Raise it."""
        raise error

    def tell(self) -> None:
        """Tell the call and the lease everything there is."""
        current_call().settle(tokens=3)
        lease = current_lease()
        lease.report(remaining=2, resets_in=5)
        lease.report(headers={"X-RateLimit-Remaining": "1", "Cookie": "secret"})
        lease.cooldown(4, "busy")
        lease.disable("refused")

    async def tell_and_fail(self) -> None:
        """Settle, then fail."""
        current_call().settle(7)
        await asyncio.sleep(1)
        current_call().settle(8)
        raise ValueError("too late")

    def see(self) -> tuple[object, ...]:
        """Return what can be seen of the call."""
        call = current_call()
        resource = current_resource()
        left = call.time_left(asyncio.get_running_loop().time())
        return (
            call.attempt,
            dict(call.tags),
            call.context.overrides.request_id,
            resource.id,
            resource.value is self,
            left,
            call.operation,
        )

    def mark(self) -> str:
        """Set a context variable; return what it was."""
        before = Seen.get()
        Seen.set("set by another call")
        return before


class Plain:
    """A worker without any life cycle."""

    def double(self, number: int) -> int:
        """Return twice as much."""
        return number * 2


def method(name: str) -> Target:
    """Return a method of the model as jobs name it."""
    return target_of(name, Model)


def hosted(work: Callable[[Host], Coroutine[Any, Any, Any]], **kwargs: Any) -> Any:
    """Run some work with a host that is up."""

    async def main() -> Any:
        host = Host(Model, ("m",), kwargs, 2)
        await host.start()
        return await work(host)

    return run(main())


def called(name: str, *args: Any, carrier: Carrier | None = None) -> Answer:
    """Return the answer of one method."""
    return hosted(lambda host: host.run(method(name), args, {}, carrier))


def test_a_worker_is_made_where_it_lives_and_started_with_its_place() -> None:
    """Arguments and keywords reach its class."""

    async def main(host: Host) -> tuple[object, ...]:
        return host.worker.name, host.worker.loud, host.worker.log

    assert hosted(main, loud=True) == ("m", True, [("start", 2)])


def test_a_worker_without_a_life_cycle_is_healthy_and_can_be_stopped() -> None:
    """All three methods are optional."""

    async def main() -> object:
        host = Host(Plain, (), {}, 0)
        await host.start()
        answer = await host.run(target_of("double", Plain), (4,), {})
        healthy = await host.healthy()
        await host.stop()
        return answer.value, healthy

    assert run(main()) == (8, True)


def test_a_host_whose_worker_was_never_made_can_be_stopped() -> None:
    """Its class may have raised."""
    run(Host(Model, (), {}, 0).stop())


def test_health_and_stop_are_the_workers_own() -> None:
    """Sync or async, as they are."""

    async def main(host: Host) -> tuple[object, ...]:
        before = await host.healthy()
        host.worker.log.append("wrong")
        after = await host.healthy()
        await host.stop()
        return before, after, host.worker.log[-1]

    assert hosted(main) == (True, False, "stop")


@pytest.mark.parametrize("name", ["double", "slow", "later"])
def test_sync_and_async_methods_answer(name: str) -> None:
    """A plain method that returns an awaitable counts as async."""
    ok, value, verbs = called(name, 21)

    assert ok
    assert value == (42 if name == "double" else 21)
    assert verbs == ()


def test_a_function_that_takes_the_worker_can_be_called() -> None:
    """As jobs may be functions, too."""

    async def main(host: Host) -> Answer:
        return await host.run(target_of(lambda worker, x: (worker.name, x), Model), (5,), {})

    assert hosted(main).value == ("m", 5)


def test_async_methods_run_side_by_side() -> None:
    """Ten of ten seconds take ten."""

    async def main(host: Host) -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(host.run(method("slow"), (n,), {}) for n in range(10)))
        return asyncio.get_running_loop().time() - began

    assert hosted(main) == 10


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)], ids=repr)
def test_what_a_method_raises_is_in_the_answer(error: BaseException) -> None:
    """The host itself goes on, whatever it is."""
    answer = called("fail", error)

    assert not answer.ok
    assert type(answer.value.opened()) is type(error)


def test_a_method_that_is_not_there_fails_its_call_alone() -> None:
    """Whoever calls by name may be wrong."""
    answer = hosted(lambda host: host.run(target_of("nothing", None), (), {}))

    assert isinstance(answer.value.opened(), AttributeError)


def test_a_cancel_reaches_an_async_method_and_waits_for_its_clean_up() -> None:
    """The answer then holds the cancel."""

    async def main(host: Host) -> tuple[object, ...]:
        task = host.begin(method("slow"), (1,), {})
        assert isinstance(task, asyncio.Task)
        await asyncio.sleep(1)
        task.cancel()
        answer = await task
        return type(answer.value.opened()), host.worker.log[-1]

    assert hosted(main) == (asyncio.CancelledError, "cleaned up")


def test_what_a_method_tells_its_call_is_collected_in_order() -> None:
    """Headers are reduced to those that say something about quotas."""
    answer = called("tell", carrier=Carrier(takes_cost=True))

    assert answer.ok, answer.value.traceback_text
    assert answer.verbs == (
        ("settle", ({"tokens": 3},)),
        ("report", (2, 5)),
        ("report_headers", ({"x-ratelimit-remaining": "1"},)),
        ("cooldown", (4, "busy")),
        ("disable", ("refused",)),
    )


def test_what_was_told_before_a_failure_counts() -> None:
    """The tokens were spent all the same."""
    answer = called("tell_and_fail", carrier=Carrier(takes_cost=True))

    assert not answer.ok
    assert answer.verbs == (("settle", (7,)), ("settle", (8,)))


def test_settling_where_no_limit_takes_a_cost_fails_as_it_does_in_the_loop() -> None:
    """The method learns of it at once."""
    answer = called("tell")

    assert isinstance(answer.value.opened(), PolicyError)


def test_a_method_sees_its_call() -> None:
    """Attempt, labels, the worker as a resource, and how much time is left."""
    carrier = Carrier(attempt=3, request_id="r-1", tags={"a": "b"}, time_left=9.0)

    answer = called("see", carrier=carrier)

    assert answer.value == (3, {"a": "b"}, "r-1", "worker-2", True, 9.0, "Model.see")


def test_a_call_that_brings_nothing_along_is_a_first_attempt() -> None:
    """There is a call all the same."""
    answer = called("see")

    assert answer.value == (1, {}, None, "worker-2", True, None, "Model.see")


def test_what_one_call_sets_in_its_context_the_next_one_does_not_find() -> None:
    """As if each had a task of its own."""

    async def main(host: Host) -> list[object]:
        return [(await host.run(method("mark"), (), {})).value for _ in range(2)]

    assert hosted(main) == ["nothing", "nothing"]


def test_what_a_call_does_not_have_it_does_not_have_there() -> None:
    """Before and after the rest of it was filled in."""

    def ask(_worker: object) -> list[bool]:
        call = current_call()
        return [hasattr(call, "nonsense"), call.attempt == 1, hasattr(call, "nonsense")]

    answer = hosted(lambda host: host.run(target_of(ask, Model), (), {}))

    assert answer.value == [False, True, False]
