"""Workers in processes, with real ones."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_staff import Bomb, Broken, Clerk, Exits, Failing, Hanging, Holder

from penstock import Policy
from penstock.errors import CallTimeoutError, RemoteError, WorkerDiedError
from penstock.workers import WorkerPool
from penstock.workers.modes.process_start import _live as LIVE  # noqa: N812 - for the test alone

pytestmark = pytest.mark.integration


def pool_of(make: Any = Clerk, *args: Any, **options: Any) -> WorkerPool[Any]:
    """Return a pool of processes that are restarted at once."""
    settings: dict[str, Any] = {
        "mode": "process",
        "size": 1,
        "queue": None,
        "restart_delay": (0.0,),
        "max_restarts": 1000,
        "start_timeout": 30,
        "stop_timeout": 5,
    }
    return WorkerPool(make, *args, **{**settings, **options})


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what happens in another process
            await asyncio.sleep(0.005)


def pids_of(pool: WorkerPool[Any]) -> set[int]:
    """Return the processes of a pool's workers."""
    run: Any = pool._run
    engines = [slot.engine for slot in run.slots.values() if slot.engine is not None]
    return {engine._link._process.pid for engine in engines}


def open_files() -> int:
    """Return how many files are open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> set[int]:
    """Return the processes that this one has started, zombies included."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(path.parent.name))
    return found


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_a_worker_lives_in_a_process_of_its_own_and_keeps_its_state(
    start_method: str,
) -> None:
    """Sync and async methods, and functions that take the worker."""
    async with pool_of(Clerk, "Ada", start_method=start_method) as pool:
        first = await pool.workers.add(1)
        second = await pool.workers.add_later(2)
        third = await (await pool.submit(Clerk.add, 3))
        pid = await pool.workers.pid()
        told = await pool.workers.told()

    assert (first, second, third) == (2, 3, 4)
    assert pid != os.getpid()
    assert told == ("Ada", 0, 3, [])
    assert not is_alive(pid)


async def test_each_worker_has_a_process() -> None:
    """And they work at the same time."""
    async with pool_of(size=2, per_worker=1) as pool:
        await until(lambda: len(pids_of(pool)) == 2)
        began = time.perf_counter()
        pids = await asyncio.gather(*(pool.workers.note(n, 0.3) for n in range(2)))
        took = time.perf_counter() - began

    assert len({*pids}) == 2
    assert took < 0.55


async def test_async_methods_run_side_by_side_in_one_process() -> None:
    """Up to ``per_worker`` of them."""
    async with pool_of(per_worker=50) as pool:
        began = time.perf_counter()
        results = await asyncio.gather(*(pool.workers.add_later(n, 0.2) for n in range(50)))
        took = time.perf_counter() - began

    assert results == [n + 1 for n in range(50)]
    assert took < 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("SIGKILL", "was killed by SIGKILL (as the system does when memory runs out)"),
        ("SIGTERM", "was killed by SIGTERM"),
        ("SIGSEGV", "was killed by SIGSEGV"),
        ("os._exit", "ended by itself with exit code 7"),
        ("sys.exit", "was ended by sys.exit"),
    ],
)
async def test_a_crash_fails_the_calls_of_that_worker_alone(how: str, told: str) -> None:
    """The error says what it was; the other worker goes on, and this one comes back."""
    async with pool_of(size=2, per_worker=1) as pool:
        await until(lambda: len(pids_of(pool)) == 2)
        neighbour = await pool.submit(Clerk.note, "x", 0.5)
        victim = await pool.submit(Clerk.die, how)

        with pytest.raises(WorkerDiedError) as caught:
            await victim
        pid = await neighbour
        await until(lambda: len(pids_of(pool)) == 2)
        pids = await asyncio.gather(*(pool.workers.note("y", 0.1) for _ in range(2)))

    assert told in str(caught.value)
    assert pid in pids
    assert len({*pids}) == 2


async def test_a_process_that_is_killed_from_outside_is_replaced_at_once() -> None:
    """Nobody called it, and nobody need know."""
    async with pool_of() as pool:
        pid = await pool.workers.pid()

        os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_alive(pid))
        began = time.perf_counter()
        await until(lambda: bool(pids_of(pool) - {pid}))
        took = time.perf_counter() - began
        again = await pool.workers.pid()

    assert again != pid
    # The figure to reach is 0.2 s on a machine that does nothing else.
    assert took < 2


async def test_async_neighbours_in_a_process_that_crashes_fail_with_it() -> None:
    """They had begun, and nobody knows how far they were."""
    async with pool_of(per_worker=4) as pool:
        neighbour = await pool.submit(Clerk.add_later, 1, 5)
        await asyncio.sleep(0.1)
        victim = await pool.submit(Clerk.die, "SIGKILL")

        results = await asyncio.gather(neighbour, victim, return_exceptions=True)

    assert [type(result) for result in results] == [WorkerDiedError] * 2


async def test_calls_that_only_waited_in_a_process_that_crashes_run_elsewhere(
    tmp_path: Path,
) -> None:
    """They had not begun: nothing is done twice, and none pays an attempt."""
    path = str(tmp_path / "log")
    async with pool_of(per_worker=8) as pool:
        victim = await pool.submit(Clerk.note_in, path, "first", 60)
        waiting = [await pool.submit(Clerk.note_in, path, f"{n}") for n in range(5)]
        await until((tmp_path / "log").exists)
        os.kill(next(iter(pids_of(pool))), signal.SIGKILL)

        results = await asyncio.gather(victim, *waiting, return_exceptions=True)

    assert isinstance(results[0], WorkerDiedError)
    assert results[1:] == [f"{n}" for n in range(5)]
    assert (tmp_path / "log").read_text().split() == ["first", "0", "1", "2", "3", "4"]


async def test_a_call_that_retry_makes_again_survives_a_crash(tmp_path: Path) -> None:
    """A death is transient: the policy says what becomes of it."""
    path = str(tmp_path / "log")
    policy = Policy("p").with_retry(attempts=2, wait=0)
    async with pool_of(policy=policy) as pool:
        job = await pool.submit(Clerk.note_in, path, "x", 0.5)
        await until((tmp_path / "log").exists)
        os.kill(next(iter(pids_of(pool))), signal.SIGKILL)
        result = await job

    assert result == "x"
    assert (tmp_path / "log").read_text() == "x\nx\n"


async def test_a_call_that_waits_in_the_process_is_cancelled_without_harm(tmp_path: Path) -> None:
    """It is never begun, and the process lives on."""
    path = str(tmp_path / "log")
    async with pool_of(per_worker=3) as pool:
        pid = await pool.workers.pid()
        running = await pool.submit(Clerk.note_in, path, "running", 0.5)
        waiting = await pool.submit(Clerk.note_in, path, "cancelled")
        last = await pool.submit(Clerk.note_in, path, "last")
        await until((tmp_path / "log").exists)
        began = time.perf_counter()

        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        took = time.perf_counter() - began
        await asyncio.gather(running, last)
        again = await pool.workers.pid()

    assert took < 0.3
    assert (tmp_path / "log").read_text().split() == ["running", "last"]
    assert again == pid


async def test_an_async_call_is_cancelled_in_the_process_and_its_clean_up_awaited(
    tmp_path: Path,
) -> None:
    """As in the loop."""
    path = tmp_path / "log"
    async with pool_of(per_worker=2) as pool:
        pid = await pool.workers.pid()
        job = await pool.submit(Clerk.clean_up, str(path))
        await asyncio.sleep(0.1)

        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        text = path.read_text()
        again = await pool.workers.pid()

    assert text == "cleaned up"
    assert again == pid


async def test_a_method_that_ignores_its_cancel_lingers_after_a_second_one(tmp_path: Path) -> None:
    """The caller leaves; the worker counts as busy until it has ended."""
    path = tmp_path / "log"
    async with pool_of() as pool:
        job = await pool.submit(Clerk.stubborn, str(path), 0.5)
        await asyncio.sleep(0.1)
        job.cancel()
        await until(path.exists)
        began = time.perf_counter()

        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        left = time.perf_counter() - began
        await pool.workers.pid()
        served = time.perf_counter() - began

    assert left < 0.3
    assert served > 0.4


async def test_a_sync_call_that_runs_is_ended_with_its_process(tmp_path: Path) -> None:
    """What only waited there is run in the next one, and no restart counts as trouble."""
    path = str(tmp_path / "log")
    async with pool_of(per_worker=4, max_restarts=1) as pool:
        for _ in range(3):
            (tmp_path / "log").unlink(missing_ok=True)
            pid = await pool.workers.pid()
            running = await pool.submit(Clerk.note_in, path, "running", 60)
            waiting = [await pool.submit(Clerk.note_in, path, f"{n}") for n in range(3)]
            await until((tmp_path / "log").exists)

            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            results = await asyncio.gather(*waiting)
            again = await pool.workers.pid()

            assert results == ["0", "1", "2"]
            assert (tmp_path / "log").read_text().split() == ["running", "0", "1", "2"]
            assert again != pid
            assert not is_alive(pid)


async def test_a_sync_call_may_be_left_to_finish(tmp_path: Path) -> None:
    """The caller leaves at once; the worker is busy until it has ended."""
    path = str(tmp_path / "log")
    async with pool_of(on_cancel="finish") as pool:
        pid = await pool.workers.pid()
        running = await pool.submit(Clerk.note_in, path, "running", 0.5)
        await until((tmp_path / "log").exists)
        began = time.perf_counter()

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        left = time.perf_counter() - began
        again = await pool.workers.pid()
        served = time.perf_counter() - began

    assert left < 0.3
    assert served > 0.3
    assert again == pid


async def test_a_time_out_of_a_sync_call_kills_and_replaces() -> None:
    """It is a cancel like any other."""
    async with pool_of(policy=Policy("p").with_timeout(0.3)) as pool:
        pid = await pool.workers.pid()

        with pytest.raises(CallTimeoutError):
            await pool.workers.note("x", 60)
        await until(lambda: len(pids_of(pool)) == 1)
        again = await pool.workers.pid()

    assert again != pid
    assert not is_alive(pid)


async def test_what_start_raises_reaches_whoever_starts_the_pool() -> None:
    """As it was raised, with the traceback of there."""
    with pytest.raises(OSError, match="no licence") as caught:
        await pool_of(Broken, max_restarts=1).start()

    assert any("raised in worker-0" in note for note in caught.value.__notes__)


async def test_a_process_that_ends_while_it_starts_says_so() -> None:
    """What it has written tells why."""
    with pytest.raises(WorkerDiedError, match="exit code 9 before it was up"):
        await pool_of(Exits, max_restarts=1).start()


async def test_a_start_that_hangs_is_ended_in_time() -> None:
    """And its process with it."""
    pool = pool_of(Hanging, "start", max_restarts=1, start_timeout=1)
    began = time.perf_counter()

    with pytest.raises(TimeoutError):
        await pool.start()

    assert time.perf_counter() - began < 10


async def test_a_stop_that_hangs_is_ended_in_time() -> None:
    """And its process with it."""
    async with pool_of(Hanging, "stop", stop_timeout=0.3) as pool:
        pid = await pool.workers.pid()
        began = time.perf_counter()

    assert time.perf_counter() - began < 5
    await until(lambda: not is_alive(pid))


async def test_a_stop_that_raises_is_told_and_ends_the_process_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A log line names it."""
    async with pool_of(Failing, str(tmp_path / "x")) as pool:
        pid = await pool.workers.pid()

    assert not is_alive(pid)
    assert "stop raised OSError" in caplog.text


def test_a_class_that_cannot_be_sent_is_refused_when_the_pool_is_built() -> None:
    """It is named."""

    class Local:
        """Not at the top of a module."""

    with pytest.raises(TypeError, match=r"Local.*cannot be pickled.*top of a module"):
        pool_of(Local)


def test_an_argument_that_cannot_be_sent_is_refused_with_the_attribute_in_the_way() -> None:
    """However deep it is."""
    with pytest.raises(TypeError, match=r"argument 0\.inner\['sock'\] \(function\) cannot"):
        pool_of(Clerk, Holder())


async def test_an_argument_of_a_call_that_cannot_be_sent_fails_that_call_alone() -> None:
    """The worker never hears of it."""
    async with pool_of() as pool:
        pid = await pool.workers.pid()

        with pytest.raises(TypeError, match=r"Clerk\.add: argument 0\.inner\['sock'\]"):
            await pool.workers.add(Holder())
        again = await pool.workers.pid()

    assert again == pid


async def test_a_function_that_cannot_be_sent_fails_its_call_alone() -> None:
    """A lambda has no name that another process could import."""
    async with pool_of() as pool:
        with pytest.raises(TypeError, match="cannot be sent to a process"):
            await (await pool.submit(lambda worker: worker.pid()))
        result = await pool.workers.add(1)

    assert result == 2


async def test_a_result_that_cannot_be_sent_fails_that_call_alone() -> None:
    """The error says that it was the result."""
    async with pool_of() as pool:
        pid = await pool.workers.pid()

        with pytest.raises(TypeError, match="the result cannot be pickled"):
            await pool.workers.unpicklable()
        again = await pool.workers.pid()

    assert again == pid


async def test_what_cannot_be_unpickled_there_fails_that_call_alone() -> None:
    """The error says that it was the arguments."""
    async with pool_of() as pool:
        pid = await pool.workers.pid()

        with pytest.raises(TypeError, match=r"arguments cannot be unpickled.*boom"):
            await pool.workers.add(Bomb())
        again = await pool.workers.pid()

    assert again == pid


async def test_a_result_that_cannot_be_unpickled_here_fails_that_call_alone() -> None:
    """The error says that it was the result."""
    async with pool_of() as pool:
        with pytest.raises(TypeError, match=r"result cannot be unpickled here.*boom"):
            await pool.workers.bomb()
        result = await pool.workers.add(1)

    assert result == 2


async def test_a_process_that_comes_up_after_nobody_waits_for_it_is_ended() -> None:
    """Its start timed out while the fork server was at work."""
    with pytest.raises(TimeoutError):
        await pool_of(max_restarts=1, start_timeout=0.0001).start()

    await until(lambda: not [one for one in LIVE if is_alive(one.pid)])


async def test_a_method_that_ignores_its_cancel_may_die_of_it(tmp_path: Path) -> None:
    """Whoever cancelled it is told that it is cancelled, and no more."""
    path = tmp_path / "log"
    async with pool_of() as pool:
        job = await pool.submit(Clerk.stubborn, str(path), 60)
        await asyncio.sleep(0.1)
        job.cancel()
        await until(path.exists)

        os.kill(next(iter(pids_of(pool))), signal.SIGKILL)
        with pytest.raises(asyncio.CancelledError):
            await job


async def test_failures_travel_and_those_that_cannot_are_told() -> None:
    """With status and traceback."""
    async with pool_of() as pool:
        with pytest.raises(KeyError) as plain:
            await pool.workers.fail(KeyError("nothing"))
        with pytest.raises(RemoteError) as picky:
            await pool.workers.refuse()

    assert "raised in worker-0" in plain.value.__notes__[0]
    assert picky.value.status_code == 429
    assert picky.value.type_name == "process_staff.Picky"
    assert "in refuse" in picky.value.traceback_text


async def test_huge_arguments_and_results_pass() -> None:
    """A hundred megabytes each way, beside small ones."""
    size = 100_000_000
    async with pool_of(per_worker=4) as pool:
        sizes = await asyncio.gather(
            pool.workers.size_of(bytes(size)), *(pool.workers.size_of(bytes(n)) for n in range(3))
        )
        back = await pool.workers.many(size)

    assert sizes == [size, 0, 1, 2]
    assert len(back) == size


async def test_large_arguments_are_held_up_instead_of_piled_up() -> None:
    """All arrive, in order, though the process reads nothing for a while."""
    async with pool_of(per_worker=20) as pool:
        jobs = [await pool.submit(Clerk.note, "x", 0.2)]
        jobs += [await pool.submit(Clerk.size_of, bytes(1_000_000 + n)) for n in range(20)]
        results = await asyncio.gather(*jobs)

    assert results[1:] == [1_000_000 + n for n in range(20)]


async def test_what_a_call_costs_is_settled_from_the_process() -> None:
    """And the worker knows its own id."""
    policy = Policy("p").with_rate(100, burst=100, cost=50)
    async with pool_of(policy=policy) as pool:
        id_ = await pool.workers.settle(1)
        left = policy.snapshot()["stages"][0]["available"][0]

    assert id_ == "worker-0"
    assert left > 98


async def test_a_worker_that_is_busy_with_a_sync_method_counts_as_healthy(tmp_path: Path) -> None:
    """It cannot answer, and need not."""
    path = tmp_path / "ill"
    options = {"health_interval": 0.1, "health_timeout": 0.2, "per_worker": 2}
    async with pool_of(Failing, str(path), **options) as pool:
        pid = await pool.workers.pid()
        blocked = await pool.workers.block(1.0)
        path.write_text("ill")
        await until(lambda: next(iter(pids_of(pool)), pid) != pid)
        path.unlink()
        await until(lambda: len(pids_of(pool)) == 1)
        again = await pool.workers.pid()

    assert blocked == pid
    assert again != pid


async def test_a_process_ignores_ctrl_c() -> None:
    """The terminal sends it to all; what is to be done the pool decides."""
    async with pool_of() as pool:
        pid = await pool.workers.pid()
        os.kill(pid, signal.SIGINT)
        await asyncio.sleep(0.1)
        again = await pool.workers.pid()

    assert again == pid


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_nothing_is_left_behind(start_method: str) -> None:
    """Neither processes nor files nor threads, after stops, crashes and kills."""

    async def round_() -> set[int]:
        pids: set[int] = set()
        async with pool_of(size=2, start_method=start_method) as pool:
            await until(lambda: len(pids_of(pool)) == 2)
            pids |= pids_of(pool)
            with pytest.raises(WorkerDiedError):
                await pool.workers.die("os._exit")
            await until(lambda: len(pids_of(pool)) == 2)
            pids |= pids_of(pool)
        pool = pool_of(start_method=start_method)
        await pool.start()
        pids |= pids_of(pool)
        await pool.kill()
        await until(lambda: not any(map(is_alive, pids)))
        return pids

    await round_()
    await asyncio.sleep(0.05)
    gc.collect()
    before = open_files(), threading.active_count(), children()
    for _ in range(3):
        await round_()
    await asyncio.sleep(0.05)
    gc.collect()
    after = open_files(), threading.active_count(), children()

    assert after == before


SCRIPT = """
import asyncio, os, sys, time
sys.path.append({here!r})
from process_staff import Clerk, Stopped
from penstock.workers import WorkerPool
{text}
async def main():
    pool = WorkerPool({make}, mode="process", size=1, stop_timeout=1,
        restart_delay=(0.001,))
    await pool.start()
    print(await pool.workers.pid(), flush=True)
    {then}

if __name__ == "__main__":
    asyncio.run(main())
"""


Script = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Return what starts a program of its own with a pool."""
    started: list[subprocess.Popen[str]] = []

    def start(make: str, then: str, text: str = "") -> subprocess.Popen[str]:
        path, here = tmp_path / "program.py", str(Path(__file__).parent)
        path.write_text(SCRIPT.format(here=here, make=make, then=then, text=text))
        command = [sys.executable, str(path)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[0]

    yield start
    for program in started:
        program.kill()
        program.wait()
        assert program.stdout is not None
        program.stdout.close()


async def pid_said(program: subprocess.Popen[str]) -> int:
    """Return the process that a program tells of."""
    assert program.stdout is not None
    return int(await asyncio.to_thread(program.stdout.readline))


async def test_a_restart_does_not_run_the_programs_main_module_again(
    tmp_path: Path, script: Script
) -> None:
    """The fork server has, once; without, a restart took as long as the program's imports."""
    log = tmp_path / "log"
    text = (
        f"with open({str(log)!r}, 'a') as file: file.write('x')\n"
        "class Own:\n"
        "    def pid(self): return os.getpid()\n"
    )
    again = "for _ in range(3): os.kill(await pool.workers.pid(), 9); await asyncio.sleep(0.3)"
    program = script("Own", f"{again}\n    print(await pool.workers.pid())", text)

    output, _ = await asyncio.to_thread(program.communicate)

    assert len({*output.split()}) == 2
    assert log.read_text() == "xx"


async def test_a_program_without_a_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    """Its processes end while they start, and say why on their output."""
    path = tmp_path / "program.py"
    path.write_text(
        "import asyncio, sys\n"
        f"sys.path.append({str(Path(__file__).parent)!r})\n"
        "from process_staff import Clerk\n"
        "from penstock.workers import WorkerPool\n"
        "async def main():\n"
        "    async with WorkerPool(Clerk, mode='process', size=1, max_restarts=1): pass\n"
        "asyncio.run(main())\n"
    )

    program = await asyncio.create_subprocess_exec(
        sys.executable, str(path), stderr=asyncio.subprocess.PIPE
    )
    _, output = await program.communicate()

    assert program.returncode == 1
    assert b"if __name__ == '__main__':" in output.splitlines()[-1]


async def test_a_process_whose_pool_is_gone_stops_its_worker_and_ends(
    tmp_path: Path, script: Script
) -> None:
    """The parent was killed and could do nothing any more."""
    program = script(f"Stopped, {str(tmp_path / 'log')!r}", "time.sleep(60)")
    pid = await pid_said(program)

    program.kill()
    await until(lambda: not is_alive(pid))

    assert (tmp_path / "log").read_text() == "stopped"


async def test_a_process_that_hangs_ends_though_its_pool_is_gone(script: Script) -> None:
    """It reads nothing any more; a thread of it watches."""
    program = script("Clerk", "await asyncio.wait_for(pool.workers.note('x', 60), 60)")
    pid = await pid_said(program)
    await asyncio.sleep(0.3)

    program.kill()
    await until(lambda: not is_alive(pid))


@pytest.mark.parametrize("then", ["return", "await pool.workers.note('x', 0)", "sys.exit(0)"])
async def test_a_program_that_never_stops_its_pool_ends_all_the_same(
    then: str, script: Script
) -> None:
    """And its processes with it."""
    program = script("Clerk", then)
    pid = await pid_said(program)

    await asyncio.to_thread(program.wait, 10)
    await until(lambda: not is_alive(pid))


async def test_ctrl_c_ends_a_program_and_its_processes(script: Script) -> None:
    """It goes to the whole group, as at a terminal."""
    program = script("Clerk", "await asyncio.sleep(60)")
    pid = await pid_said(program)

    program.send_signal(signal.SIGINT)
    os.kill(pid, signal.SIGINT)
    await asyncio.to_thread(program.wait, 10)
    await until(lambda: not is_alive(pid))
