"""What runs in an actor and what waits for it, without Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from penstock.workers import envelope
from penstock.workers.host import Answer

pytest.importorskip("ray", reason="Ray is not installed: pip install 'penstock[ray]'")

from penstock import RemoteError, WorkerDiedError
from penstock.workers.modes import ray_cancel, ray_place, ray_sending
from penstock.workers.modes.ray_api import cloudpickle, exceptions
from penstock.workers.modes.ray_cancel import Cancelling
from penstock.workers.modes.ray_place import ENDS, RUNS_ON, WAITS, RayPlace
from penstock.workers.modes.ray_replies import Replies, Reply
from penstock.workers.target import target_of


class Desk:
    """A worker."""

    def __init__(self, well: bool = True) -> None:
        self.well = well
        self.log: list[Any] = []
        self.let_go = threading.Event()

    def start(self, index: int) -> None:
        """Note the place."""
        self.log.append(index)

    def stop(self) -> None:
        """Note the end."""
        raise LookupError("stopped")

    def healthy(self) -> bool:
        """Say how it is."""
        return self.well

    def add(self, number: int) -> int:
        """Return one more."""
        return number + 1

    def block(self) -> str:
        """Block until it may go."""
        self.let_go.wait(5.0)
        return "went"

    async def wait(self) -> None:
        """Wait for a long time, and clean up."""
        try:
            await asyncio.sleep(3600)
        finally:
            self.log.append("cleaned")


@pytest.fixture(autouse=True)
def _own_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "dumps", envelope.dumps)


@pytest.fixture
async def place() -> RayPlace:
    """Return a place with a worker, all in one loop."""
    place = RayPlace(3, "worker-3")
    assert (await place.start(Desk)).ok
    return place


async def test_results_are_sent_light_and_failures_with_all_they_are(place: RayPlace) -> None:
    """A result alone is what Ray would send; the rest is an answer."""
    result = await place.run(0, "add", None, 1)
    function = cloudpickle.dumps(target_of(lambda desk, n: [*desk.log, n], Desk))
    other = await place.run(1, function, [1, "worker-3"], 7)
    failed = await place.run(2, "add", None, "no number")

    assert (result, other) == (2, [3, 7])
    assert isinstance(failed, Answer)
    assert isinstance(failed.value.opened(), TypeError)


async def test_a_start_and_a_stop_that_raise_are_answers() -> None:
    """Nothing is raised through Ray."""
    place = RayPlace(0, "worker-0")
    refused = await place.start(Desk, no_such_argument=1)
    assert (await place.start(Desk)).ok

    stopped = await place.stop()

    assert isinstance(refused.value.opened(), TypeError)
    assert isinstance(stopped.value.opened(), LookupError)


async def test_a_cancelled_async_method_ends(place: RayPlace) -> None:
    """It cleans up, and the answer is a cancel."""
    task = asyncio.create_task(place.run(0, "wait", None))
    await asyncio.sleep(1)

    said = await place.cancel(0)
    answer = await task

    assert said == ENDS
    assert isinstance(answer.value.opened(), asyncio.CancelledError)
    assert await place.run(1, cloudpickle.dumps(target_of(lambda d: d.log, Desk)), None) == [
        3,
        "cleaned",
    ]


async def test_what_is_cancelled_first_does_not_begin(place: RayPlace) -> None:
    """The two may arrive in any order; the number may be used up after that."""
    await place.cancel(0)
    answer = await place.run(0, "add", None, 1)
    following = await place.run(1, "add", None, 1)

    assert isinstance(answer.value.opened(), asyncio.CancelledError)
    assert following == 2


async def test_cancels_that_came_too_late_do_not_pile_up(
    place: RayPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many are remembered, and so many functions."""
    monkeypatch.setattr(ray_place, "_MOST_REMEMBERED", 3)
    for call in range(10):
        await place.cancel(call)
    for number in range(10):
        work = cloudpickle.dumps(target_of(lambda desk, n=number: n, Desk))
        assert await place.run(100 + number, work, None) == number

    assert len(place._cancelled) == 3
    assert len(place._targets) <= 3


@pytest.mark.real_time
async def test_a_blocked_worker_answers_from_beside() -> None:
    """Its health is not asked, its cancel is told that it runs on, others' that they wait."""
    place, desk = RayPlace(0, "worker-0"), Desk()
    begun: Future[asyncio.AbstractEventLoop] = Future()

    async def work() -> Any:
        await place.start(lambda: desk)
        begun.set_result(asyncio.get_running_loop())
        return await place.run(5, "block", None)

    thread = threading.Thread(target=lambda: done.set_result(asyncio.run(work())))
    done: Future[Any] = Future()
    thread.start()
    begun.result(5.0)
    while place._blocking != 5:  # noqa: ASYNC110 - set in the other thread
        await asyncio.sleep(0.001)

    said = [await place.cancel(5), await place.cancel(6)]
    health = await place.healthy()
    desk.let_go.set()
    thread.join(5.0)

    assert said == [RUNS_ON, WAITS]
    assert (health.ok, health.value) == (True, True)
    assert done.result(5.0) == "went"


@pytest.mark.real_time
async def test_a_worker_that_becomes_busy_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks does not wait for the end of a sync method that began in between."""
    monkeypatch.setattr(ray_place, "_BETWEEN_LOOKS", 0.01)
    place = RayPlace(0, "worker-0")

    class Silent(Desk):
        async def healthy(self) -> bool:
            place._blocking = 1
            await asyncio.sleep(3600)
            return False

    await place.start(Silent)

    assert (await place.healthy()).value is True


@pytest.mark.real_time
async def test_an_idle_worker_is_asked_for_its_health() -> None:
    """What its own ``healthy`` says is the answer."""
    place = RayPlace(0, "worker-0")
    await place.start(Desk, False)

    assert (await place.healthy()).value is False


async def test_a_watch_goes_on(place: RayPlace) -> None:
    """It ends with the actor alone."""
    watch = asyncio.create_task(place.watch())
    await asyncio.sleep(3600)

    assert not watch.done()
    watch.cancel()


def _reply() -> Reply:
    return Reply(asyncio.get_running_loop().create_future())


@pytest.fixture
def ended() -> list[str]:
    """Return why an actor was ended."""
    return []


async def test_a_cancelled_call_is_waited_for_until_it_has_ended(ended: list[str]) -> None:
    """An async method that cleans up in time is left alone."""
    call, told = _reply(), _reply()
    cancelling = Cancelling(call, told, ended.append, 10.0)
    told.arrive(ENDS, None)
    asyncio.get_running_loop().call_later(0.5, call.arrive, None, None)

    began = asyncio.get_running_loop().time()
    await cancelling.wait()
    waited = asyncio.get_running_loop().time() - began
    await asyncio.sleep(60)

    assert waited == 0.5
    assert ended == []


async def test_a_call_that_does_not_end_ends_its_actor(ended: list[str]) -> None:
    """The caller leaves after a second, the actor has until it is overdue."""
    call, told = _reply(), _reply()
    cancelling = Cancelling(call, told, ended.append, 10.0)

    began = asyncio.get_running_loop().time()
    await cancelling.wait()
    waited = asyncio.get_running_loop().time() - began
    await asyncio.sleep(8)
    before = [*ended]
    await asyncio.sleep(2)

    assert waited == 1.0
    assert (before, ended) == ([], ["a cancelled call did not end"])


@pytest.mark.parametrize(
    ("word", "reasons"), [(RUNS_ON, ["a cancelled call ran on"]), (WAITS, [])], ids=["own", "other"]
)
async def test_a_blocking_call_is_ended_at_once(
    ended: list[str], word: str, reasons: list[str]
) -> None:
    """One that waits behind another's must not end that one."""
    call, told = _reply(), _reply()
    cancelling = Cancelling(call, told, ended.append, 10.0)
    told.arrive(word, None)
    await cancelling.wait()
    await asyncio.sleep(60)

    assert ended == reasons


async def test_a_call_may_finish_behind_its_cancel() -> None:
    """Nothing is ended where that was not asked for."""
    call, told = _reply(), _reply()
    cancelling = Cancelling(call, told, None, 10.0)
    await cancelling.wait()
    await asyncio.sleep(60)

    assert not call.arrived


class _Ref:
    """Stands for a reference of Ray's."""

    def __init__(self) -> None:
        self.answer: Future[Any] = Future()

    def future(self) -> Future[Any]:
        return self.answer


async def test_answers_come_to_whoever_awaits_them() -> None:
    """A result, a failure, and one whose awaiter has left."""
    replies, refs = Replies(), [_Ref(), _Ref(), _Ref()]
    told: list[int] = []
    waiting = [replies.to(ref) for ref in refs]
    waiting[2].future.cancel()
    waiting[2].when_arrived(partial(told.append, 2))
    refs[0].answer.set_result("it")
    refs[1].answer.set_exception(LookupError("no"))
    refs[2].answer.set_result("late")

    assert await waiting[0].future == "it"
    with pytest.raises(LookupError):
        await waiting[1].future
    waiting[2].when_arrived(partial(told.append, 3))
    assert told == [2, 3]


async def test_what_is_outstanding_can_be_ended() -> None:
    """Each with an error of its own; what arrives later is nobody's."""
    replies, refs = Replies(), [_Ref(), _Ref()]
    waiting = [replies.to(ref) for ref in refs]
    replies.end_all(lambda: WorkerDiedError("gone"))
    refs[0].answer.set_result("late")
    await asyncio.sleep(1)

    failures = [reply.future.exception() for reply in waiting]

    assert [str(failure) for failure in failures] == ["gone", "gone"]
    assert failures[0] is not failures[1]


def test_an_answer_after_the_loop_is_for_nobody() -> None:
    """A thread of Ray's may come when the program's loop is closed."""

    async def begin() -> _Ref:
        ref = _Ref()
        Replies().to(ref)
        return ref

    ref = asyncio.run(begin())

    ref.answer.set_result("late")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.ActorDiedError(), "died"),
        (exceptions.NodeDiedError("its node has died"), "its node ended"),
        (exceptions.WorkerCrashedError(), "died"),
        (exceptions.ActorUnavailableError("no answer", None), "not to be reached"),
    ],
    ids=["actor", "node", "process", "network"],
)
def test_errors_that_end_a_worker_say_why(error: BaseException, reason: str) -> None:
    """Ray's report is the cause."""
    read = ray_sending.read_error(error, "worker-0", "Desk.add")

    assert isinstance(read, WorkerDiedError)
    assert str(read) == f"worker-0 ended during Desk.add: {reason}"
    assert read.__cause__ is error


def test_an_error_about_what_was_sent_is_told_as_one() -> None:
    """A TypeError stays one; any other cause is named."""
    wrong = exceptions.RayTaskError("run", "traceback", TypeError("cannot pickle"))
    missing = exceptions.RayTaskError("run", "traceback", ImportError("no module"))
    other = OSError("of Ray's")

    kinds = [type(ray_sending.read_error(error, "w", "o")) for error in (wrong, missing, other)]

    assert kinds == [TypeError, RemoteError, OSError]


def _held(thing: object) -> Callable[[], object]:
    def use() -> object:
        return thing

    return use


def test_what_keeps_a_class_from_being_sent_is_named() -> None:
    """Through a closure, a class attribute and a list."""

    class Local:
        locks = (_held(threading.Lock()),)

    with pytest.raises(TypeError, match=r"Local\.locks\[0\], which uses 'thing' \(lock\) cannot"):
        ray_sending.check_sendable(Local, (), {})


def test_patience_is_shorter_than_any_time_limit_for_stopping() -> None:
    """Else a caller would wait for longer than the worker is given."""
    assert ray_cancel._PATIENCE < 10.0
