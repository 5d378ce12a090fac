"""``policy.stream(...).reading(...)``: the first item that matters, and the wait for the next."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import CallTimeoutError, ConfigError, Policy, PolicyError, Pool
from penstock.events import AttemptEnded, CallTimedOut
from penstock.streaming.reading import MOST_KEPT_BACK
from penstock.testing import EventLog, Sweep, cancel_sweep, run

pytestmark = pytest.mark.virtual_time

STALL = 1000.0


class Plays:
    """A source that plays one list per opening.

    Args:
        plays: What each opening brings: an item, an exception to raise, or seconds (a float) to
            wait.
    """

    def __init__(self, *plays: list[Any]) -> None:
        self.plays = list(plays)
        self.opened = self.closed = 0

    async def __call__(self) -> AsyncIterator[str]:
        """Play the next opening."""
        self.opened += 1
        try:
            for step in self.plays.pop(0):
                match step:
                    case Exception():
                        raise step
                    case float():
                        await asyncio.sleep(step)
                    case _:
                        yield step
        finally:
            self.closed += 1


def _is_word(item: str) -> bool:
    return not item.startswith("-")


async def _read(stream: Any, read: list[str] | None = None) -> list[str]:
    read = [] if read is None else read
    async with stream as items:
        async for item in items:
            read.append(item)
    return read


def _now() -> float:
    return asyncio.get_running_loop().time()


# --- what may be set ----------------------------------------------------------------------------


@pytest.mark.parametrize("idle", [0, -1, float("nan"), float("inf"), True, "5"])
def test_an_idle_limit_that_is_not_a_positive_number_of_seconds_is_refused(idle: Any):
    """The error names the field and the value."""
    with pytest.raises(ConfigError, match=r"^stream: 'idle' must be a finite .* above 0; got "):
        Policy().stream(Plays()).reading(idle=idle)


async def _asks_somebody(item: str) -> bool:
    return bool(item)


@pytest.mark.parametrize("first", ["text", 5, _asks_somebody])
def test_what_cannot_tell_the_first_item_is_refused(first: Any):
    """A coroutine function would be true for every item."""
    with pytest.raises(ConfigError, match=r"^stream: 'first' must be a function of an item"):
        Policy().stream(Plays()).reading(first=first)


async def test_how_a_stream_is_read_is_said_before_it_is_entered():
    """Afterwards it would be too late for the first item."""
    stream = Policy().stream(Plays(["one"]))

    async with stream:
        with pytest.raises(PolicyError, match="before it is entered"):
            stream.reading(idle=5)


async def test_what_is_not_said_again_stays():
    """And a limit may be a timedelta."""
    source = Plays(["- hello", OSError("off")], ["- hello", "one", STALL])
    stream = Policy().with_retry(2, wait=0).stream(source)

    with pytest.raises(CallTimeoutError):
        await _read(stream.reading(first=_is_word).reading(idle=timedelta(seconds=3)))

    assert (source.opened, _now()) == (2, 3)


# --- the first item that matters ----------------------------------------------------------------


async def test_what_comes_before_the_first_item_that_matters_is_kept_back_and_handed_on_with_it():
    """In order; entering waits for that item."""
    source = Plays(["- hello", 2.0, "- a moment", 3.0, "one", 4.0, "- aside", "two"])

    async with Policy().stream(source).reading(first=_is_word) as items:
        entered = _now()
        read = [item async for item in items]

    assert entered == 5
    assert read == ["- hello", "- a moment", "one", "- aside", "two"]


@pytest.mark.parametrize("failure", [ConnectionError("off"), STALL])
async def test_until_the_first_item_that_matters_the_source_is_opened_again(failure: Any):
    """What another attempt had brought is dropped; the attempt's limit runs until then."""
    source = Plays(["- hello", failure], ["- hello again", "one", 20.0, "two"])
    policy = Policy().with_retry(2, wait=0).with_concurrency(1).with_timeout(10)

    assert await _read(policy.stream(source).reading(first=_is_word)) == [
        "- hello again",
        "one",
        "two",
    ]
    assert source.closed == 2


async def test_after_the_first_item_that_matters_a_failure_is_the_readers():
    """As without ``first`` after any item."""
    source = Plays(["- hello", "one", ConnectionError("off")], ["never"])
    read: list[str] = []

    with pytest.raises(ConnectionError, match="off"):
        await _read(Policy().with_retry(2, wait=0).stream(source).reading(first=_is_word), read)

    assert read == ["- hello", "one"]


async def test_a_source_without_an_item_that_matters_is_read_as_it_is():
    """It has come to its end: that is no failure."""
    source = Plays(["- hello", "- goodbye"])
    policy = Policy().with_retry(2, wait=0).with_breaker(failures=1)

    assert await _read(policy.stream(source).reading(first=_is_word)) == ["- hello", "- goodbye"]
    assert source.opened == 1


async def test_no_more_than_so_many_items_are_kept_back():
    """A source that keeps its connection alive for ever is handed on in the end."""
    source = Plays(["-"] * (MOST_KEPT_BACK - 1) + [5.0] + ["-", STALL])
    stream = Policy().with_retry(2, wait=0).stream(source).reading(first=_is_word)

    async with stream as items:
        assert _now() == 5
        read = [await anext(items) for _ in range(MOST_KEPT_BACK)]

    assert read == ["-"] * MOST_KEPT_BACK


async def test_a_mistake_in_first_takes_the_item_as_the_first(caplog: pytest.LogCaptureFixture):
    """The stream is in order; the item's text does not reach the log."""
    source = Plays(["secret", ConnectionError("off")], ["never"])
    read: list[str] = []

    def first(item: str) -> bool:
        raise ValueError(item)

    with pytest.raises(ConnectionError, match="off"):
        await _read(Policy().with_retry(2, wait=0).stream(source).reading(first=first), read)

    assert read == ["secret"]
    assert "a stream's 'first' raised ValueError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_reader_that_leaves_while_items_are_kept_for_it_leaves_in_peace():
    """They are not handed on to nobody."""
    source = Plays(["- hello", "one", "two"])
    policy = Policy().with_concurrency(1)

    async with policy.stream(source).reading(first=_is_word) as items:
        assert await anext(items) == "- hello"

    assert source.closed == 1
    assert policy.snapshot()["stages"][0]["in_flight"] == 0


@given(
    plays=st.lists(
        st.tuples(st.lists(st.sampled_from(["-", "one", "two"]), max_size=4), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_a_reader_gets_one_opening_whole_and_nothing_of_the_others(
    plays: list[tuple[list[str], bool]],
):
    """That is the first one which brings an item that matters, or comes to its end."""
    tagged = [[f"{item}{n}" for item in items] for n, (items, _) in enumerate(plays)]
    fails = [fails for _, fails in plays]
    source = Plays(
        *(
            [*items, ConnectionError("off")] if fail else items
            for items, fail in zip(tagged, fails, strict=True)
        )
    )
    stream = Policy().with_retry(len(plays), wait=1).stream(source).reading(first=_is_word)
    read: list[str] = []

    async def main() -> bool:
        try:
            await _read(stream, read)
        except ConnectionError:
            return True
        return False

    failed = run(main())

    commits = [
        any(map(_is_word, items)) or not fail for items, fail in zip(tagged, fails, strict=True)
    ]
    chosen = commits.index(True) if any(commits) else None
    assert read == ([] if chosen is None else tagged[chosen])
    assert failed == (chosen is None or fails[chosen])
    assert source.opened == source.closed == (len(plays) if chosen is None else chosen + 1)


# --- the wait for the next item -----------------------------------------------------------------


async def test_a_stream_that_stands_still_fails_as_a_timeout_does():
    """Told to breaker and pool, to observers, and to the reader; not tried again."""
    source = Plays(["one", 9.0, "two", STALL, "never"], ["never"])
    log = EventLog()
    policy = Policy("chat", observers=[log]).with_retry(2, wait=0).with_breaker(failures=1)
    pool = Pool({"ann": "sk-1"})
    policy = policy.rotating(pool, inject=None)
    read: list[str] = []

    with pytest.raises(CallTimeoutError) as caught:
        await _read(policy.stream(source).reading(idle=10), read)

    assert str(caught.value) == "policy 'chat': no item of the stream came for 10 s"
    assert caught.value.seconds == 10
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert (read, _now()) == (["one", "two"], 19)
    assert (source.opened, source.closed) == (1, 1)
    assert log.only(AttemptEnded).verdict.value == "timeout"
    assert log.only(CallTimedOut).seconds == 10
    assert policy.snapshot()["stages"][1]["state"] == "open"
    assert pool.stats().failures == 1
    assert _task().cancelling() == 0


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_the_readers_own_time_does_not_count():
    """However long it takes, and however often."""
    source = Plays([word for n in range(5) for word in (4.0, f"{n}")])
    read = []

    async with Policy().stream(source).reading(idle=5) as items:
        async for item in items:
            read.append(item)
            await asyncio.sleep(20)

    assert read == list("01234")


async def test_the_wait_for_the_first_item_does_not_count():
    """Nor that for the first which matters: a timeout inside retry is for that."""
    source = Plays([100.0, "- hello", 100.0, "one", 4.0, "two"])

    read = await _read(Policy().stream(source).reading(first=_is_word, idle=5))

    assert read == ["- hello", "one", "two"]


async def test_a_fast_stream_sets_no_timer_per_item():
    """One at a time, moved when it fires."""
    source = Plays([word for n in range(2000) for word in (0.01, f"{n}")])
    loop = asyncio.get_running_loop()
    set_for: list[float] = []
    call_later = loop.call_later

    def counting(delay: float, callback: Any, *args: Any, **kwargs: Any) -> Any:
        if "IdleLimit" in getattr(callback, "__qualname__", ""):
            set_for.append(delay)
        return call_later(delay, callback, *args, **kwargs)

    loop.call_later = counting  # type: ignore[method-assign]
    await _read(Policy().stream(source).reading(idle=5))

    assert _now() == pytest.approx(20)
    assert len(set_for) <= 5


async def test_no_timer_is_left_of_a_stream_that_is_over():
    """Read to its end, left, failed, or dropped."""
    loop: Any = asyncio.get_running_loop()

    def timers() -> int:
        return sum(not handle.cancelled() for handle in loop._scheduled)

    for step in ("two", OSError("off")):
        stream = Policy().stream(Plays(["one", step])).reading(idle=50)
        await asyncio.gather(_read(stream), return_exceptions=True)
    async with Policy().stream(Plays(["one", "two", "three"])).reading(idle=50) as items:
        await anext(items)
        await anext(items)
        assert timers() == 1
    dropped: Any = Policy().stream(Plays(["one", "two", "three"])).reading(idle=50)
    await dropped.__aenter__()
    await anext(dropped)
    await anext(dropped)
    del dropped
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert timers() == 0


@pytest.mark.parametrize("outer", ["cancel", "total", "both"])
async def test_a_cancel_from_outside_in_the_same_step_wins(outer: str):
    """A cancel is a cancel, and a limit of the whole call is that limit."""
    policy = Policy().with_timeout(10 if outer != "cancel" else 100)
    stream = policy.stream(Plays(["one", STALL])).reading(idle=10)
    task = asyncio.create_task(_read(stream))
    if outer != "total":
        asyncio.get_running_loop().call_at(10, task.cancel)

    if outer == "total":
        with pytest.raises(CallTimeoutError, match="the call timed out after 10 s"):
            await task
    else:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelling() == (outer != "total")


async def test_a_source_that_swallows_the_cancel_goes_on():
    """As in a timeout stage: it keeps its item, and the task its count."""

    async def stubborn() -> AsyncIterator[str]:
        yield "one"
        try:
            await asyncio.sleep(STALL)
        except asyncio.CancelledError:
            yield "all the same"
        yield "two"

    assert await _read(Policy().stream(stubborn).reading(idle=5)) == ["one", "all the same", "two"]
    assert _task().cancelling() == 0


async def test_an_error_that_a_source_makes_of_the_cancel_is_the_readers():
    """The count is put back for it too."""

    async def translating() -> AsyncIterator[str]:
        yield "one"
        try:
            await asyncio.sleep(STALL)
        except asyncio.CancelledError:
            raise ConnectionError("made of it") from None

    with pytest.raises(ConnectionError, match="made of it"):
        await _read(Policy().stream(translating).reading(idle=5))
    assert _task().cancelling() == 0


async def test_the_next_item_may_be_read_in_another_task():
    """That one is cancelled, and no other."""
    async with Policy().stream(Plays(["one", "two", STALL])).reading(idle=5) as items:
        await anext(items)
        second = asyncio.create_task(anext(items))  # type: ignore[arg-type]
        assert await second == "two"
        third = asyncio.create_task(anext(items))  # type: ignore[arg-type]
        with pytest.raises(CallTimeoutError):
            await third

    assert _now() == 5
    assert _task().cancelling() == 0


async def test_an_idle_limit_needs_a_task():
    """The error says so, as that of a timeout does."""
    stream = Policy("chat").stream(Plays(["one", "two"])).reading(idle=5)
    outcome: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def without_a_task() -> None:
        reading = _read(stream)
        try:
            reading.send(None)
        except RuntimeError as error:
            outcome.set_result(error)

    asyncio.get_running_loop().call_soon(without_a_task)

    assert str(await outcome) == "policy 'chat': 'idle' works inside an asyncio task only"


async def test_an_idle_limit_holds_for_the_policy_that_a_fallback_asks():
    """That one runs the same stream."""
    source = Plays([ConnectionError("down")], ["one", STALL])
    policy = Policy("first").with_fallback(policy=Policy("second"))

    with pytest.raises(CallTimeoutError, match="'second': no item of the stream came for 5 s"):
        await _read(policy.stream(source).reading(idle=5))


# --- three limits at once -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plays", "read", "opened", "seconds", "message"),
    [
        ([[1.0, "one", 2.0, "two"]], ["one", "two"], 1, 3, None),
        ([[STALL], [1.0, "one"]], ["one"], 2, 6, None),
        ([["- hi", STALL], ["- hi", 4.0, "one"]], ["- hi", "one"], 2, 9, None),
        ([[STALL], [STALL], [STALL]], [], 3, 15, "attempt 3 timed out after 5 s"),
        ([[4.0, "one", 9.0, "two", STALL]], ["one", "two"], 1, 23, "no item .* for 10 s"),
        ([["one", *[9.0, "more"] * 5]], ["one", *["more"] * 3], 1, 30, "call timed out after 30 s"),
        ([[STALL], [STALL], [4.0, "one", 9.0, "two", STALL]], ["one", "two"], 3, 30, "the call"),
    ],
)
async def test_first_item_next_item_and_whole_stream_have_a_limit_each(
    plays: list[list[Any]], read: list[str], opened: int, seconds: float, message: str | None
):
    """Five seconds per attempt until its first item, ten between two, thirty for everything."""
    source = Plays(*plays)
    policy = Policy().with_timeout(30).with_retry(3, wait=0).with_timeout(5)
    found: list[str] = []

    reading = _read(policy.stream(source).reading(first=_is_word, idle=10), found)
    if message is None:
        await reading
    else:
        with pytest.raises(CallTimeoutError, match=message):
            await reading

    assert found == read
    assert (source.opened, source.closed, _now()) == (opened, opened, seconds)
    assert _task().cancelling() == 0


# --- cancel sweep -------------------------------------------------------------------------------


def _sweep(leaves: bool) -> Callable[[Sweep], Any]:
    async def scenario(sweep: Sweep) -> tuple[Policy, list[Plays]]:
        policy = (
            Policy()
            .with_timeout(60)
            .with_retry(3, wait=1)
            .with_breaker(failures=20)
            .with_concurrency(1)
            .with_timeout(5)
            .rotating({"ann": "sk-1", "bob": "sk-2"}, inject=None)
        )
        sources = [
            Plays(["-", ConnectionError("down")], ["-", 0.5, "-", "one", 0.5, "two", STALL])
            for _ in range(2)
        ]

        async def reader(source: Plays) -> None:
            stream = policy.stream(source).reading(first=_is_word, idle=2)
            try:
                async with stream as items:
                    async for _ in items:
                        await asyncio.sleep(0.25)
                        if leaves:
                            break
            except CallTimeoutError:
                assert not leaves

        sweep.victim(reader(sources[0]))
        sweep.beside(reader(sources[1]))
        return policy, sources

    return scenario


@pytest.mark.parametrize("leaves", [False, True])
def test_cancelled_at_any_point_a_stream_gives_back_what_it_held(leaves: bool):
    """While items are kept back, while they are read, and while the limit runs out."""

    def check(state: tuple[Policy, list[Plays]]) -> None:
        policy, sources = state
        stages = {stage["stage"]: stage for stage in policy.snapshot()["stages"]}
        assert stages["concurrency"]["in_flight"] == stages["timeout"]["running"] == 0
        assert stages["breaker"]["probes_out"] == 0
        assert all(r["in_flight"] == 0 for r in stages["rotation"]["resources"].values())
        assert [source.opened - source.closed for source in sources] == [0, 0]
        assert sources[1].opened == 2

    assert cancel_sweep(_sweep(leaves), check) > 10
