from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from tests.integrations.scripting import Scripts, scripts
from tests.integrations.servers.celery_worker import application
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration


class Worker:
    """A running worker, and the service that its tasks call."""

    def __init__(self, app: Celery, pid: int, service: Scripts, number: int) -> None:
        self.pid = pid
        self._app = app
        self._service = service
        self._number = number

    def run(self, task: str, *args: object, times: int = 1) -> list[Any]:
        """Return what a task returns, run so many times at once."""
        sent = [self._app.send_task(task, args) for _ in range(times)]
        return [each.get(timeout=10, interval=0.02) for each in sent]

    def arrived(self) -> list[str]:
        """Return the targets of the requests that the service got."""
        log = self._service.ask("GET", f"/scripts/{self._number}")
        return [each["target"] for each in log["arrived"]]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Run a real worker with two processes that were forked."""
    folder = tmp_path_factory.mktemp("celery")
    with scripts() as service, pytest.MonkeyPatch.context() as patch:
        script = service({"status": 503}, {"body": "found turbines"})
        # What the recipe reads when it is imported, here and there.
        for name in ("BROKER_URL", "RESULT_URL"):
            patch.setenv(name, "")
        patch.setenv("SEARCH_URL", script.url)
        with serve("celery_worker", folder) as pid:
            yield Worker(application(folder), int(pid), service, script.number)


@pytest.mark.covers("celery", "retry")
def test_the_recipe_answers_through_a_service_that_fails_at_first(worker: Worker):
    """The policy's own retry, within one run of the task."""
    results = worker.run("search", "turbines")

    assert results == ["found turbines"]
    assert [each.partition("/search")[2] for each in worker.arrived()] == ["?q=turbines"] * 2


@pytest.mark.finding(12)
@pytest.mark.covers("celery", "retry")
def test_each_process_has_one_loop_of_its_own(worker: Worker):
    """Although the parent had used the policy, and so had a loop, when it forked."""
    results = worker.run("whereabouts", times=12)

    processes = {process for process, *_ in results}
    assert worker.pid not in processes
    assert len({(process, loop) for process, loop, *_ in results}) == len(processes)
    assert {(thread, attempts) for *_, thread, attempts in results} == {("penstock-run-sync", 2)}


@pytest.mark.covers("celery", "server hint")
@pytest.mark.covers("celery", "own retries")
def test_a_refused_task_comes_again_when_the_policy_said(worker: Worker):
    """By Celery's own retry, which is used once, for the pause that is too long to sit out."""
    ((retries, seconds, retry_after),) = worker.run("comes_again")

    assert retries == 1
    assert 0.4 < retry_after <= 0.5
    assert retry_after <= seconds < 5


@pytest.mark.covers("celery", "deadline")
def test_a_task_that_celery_ends_gives_everything_back(worker: Worker):
    """Its soft limit interrupts the wait of ``run_sync``, and the call is cancelled."""
    ((snapshot),) = worker.run("too_long")

    _, timeout, concurrency = snapshot["stages"]
    assert (timeout["running"], concurrency["in_flight"]) == (0, 0)
