"""A system that has no thread, file or store to give for a while: less is done meanwhile, and nothing is lost."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from stabilize_nb import Engine, StabilizeError, Task, TaskResult
from stabilize_nb.queue.processor import loop
from stabilize_nb.store import beacon
from stabilize_nb.store.database import Database
from tests.makers import Bench, stage, workflow

WAIT = 20.0


@pytest.fixture
def no_thread(monkeypatch):
    """Give the names whose threads cannot be begun: those that begin with one of them."""
    names: set[str] = set()
    start = threading.Thread.start

    def begin(self: threading.Thread) -> None:
        if any(map(self.name.startswith, names)):
            msg = "can't start new thread"
            raise RuntimeError(msg)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", begin)
    return names


def test_no_thread_for_a_worker_loses_nothing(no_thread, caplog):
    """Those that are there do the work, and when there are threads again, all do."""
    go_on = threading.Event()
    begun: list[str] = []

    class Work(Task):
        def execute(self, stage: Any) -> TaskResult:
            begun.append(stage.ref_id)
            assert go_on.wait(WAIT)
            return TaskResult.success()

    with Engine(":memory:", workers=4) as engine:
        engine.registry.register("work", Work())
        go_on.set()
        engine.start(workflow(stage("warm", task="work"))).wait(WAIT)
        go_on.clear()
        no_thread.add("stabilize-worker")
        runs = [engine.start(workflow(stage(name, task="work"))) for name in "abcd"]
        go_on.set()
        for run in runs:
            run.wait(WAIT)
        no_thread.clear()
        runs.append(engine.start(workflow(stage("later", task="work"))))
        runs[-1].wait(WAIT)
        assert {run.status.name for run in runs} == {"SUCCEEDED"}
        assert sorted(begun) == ["a", "b", "c", "d", "later", "warm"]
    assert sum("no worker can be begun" in each.message for each in caplog.records) <= 1


def test_no_thread_for_the_first_worker_is_tried_again(no_thread):
    """The keeper looks again: nobody has to start anything anew."""
    with Bench() as bench:
        flow = workflow(stage("only"))
        bench.begin(flow)
        no_thread.add("stabilize-worker")
        bench.processor.start()
        while not bench.processor._is_short:
            pass
        no_thread.clear()
        bench.processor.process_all(WAIT)
        assert bench.statuses(flow) == {"only": "SUCCEEDED"}


def test_no_thread_for_the_keeper_is_said(no_thread):
    """What cannot be begun at all is told in a sentence, and can be begun later."""
    with Bench() as bench:
        flow = workflow(stage("only"))
        bench.begin(flow)
        no_thread.add("stabilize-keeper")
        with pytest.raises(StabilizeError, match="the system gives this process no further thread"):
            bench.processor.start()
        no_thread.clear()
        bench.processor.start()
        bench.processor.process_all(WAIT)
        assert bench.statuses(flow) == {"only": "SUCCEEDED"}


def test_no_thread_for_who_waits_is_an_error_and_no_wait(no_thread):
    """process_all says so, and close returns: where an interpreter ends there are no threads any more."""
    with Bench() as bench:
        no_thread.update({"stabilize-drain", "stabilize-stop"})
        with pytest.raises(RuntimeError, match="can't start new thread"):
            bench.processor.process_all(WAIT)
    assert not bench.processor.running


def test_processor_that_cannot_be_seen_takes_nothing_until_it_can(tmp_path: Path, monkeypatch, caplog):
    """Without a light others would take from it what it has: it begins once the file can be opened."""
    refused, opened = threading.Event(), beacon._open

    def no_descriptor(path: str) -> int:
        refused.set()
        raise OSError(errno.EMFILE, "Too many open files", path)

    with Bench(f"sqlite:///{tmp_path}/test.db") as bench:
        flow = workflow(stage("only"))
        bench.begin(flow)
        monkeypatch.setattr(beacon, "_open", no_descriptor)
        bench.processor.start()
        assert refused.wait(WAIT)
        assert bench.statuses(flow) == {"only": "NOT_STARTED"}
        monkeypatch.setattr(beacon, "_open", opened)
        bench.processor.process_all(WAIT)
        assert bench.statuses(flow) == {"only": "SUCCEEDED"}
        assert sum("could not look around" in each.message for each in caplog.records) == 1


def test_steps_leave_nothing_behind_that_waits(tmp_path: Path):
    """Of a body with very many steps nobody waits for news afterwards."""

    class Steps(Task):
        def execute(self, stage: Any) -> TaskResult:
            for at in range(50):
                stage.step("add", lambda at=at: at)
            waiting.append(len(bench.database.changes._tickets))
            return TaskResult.success()

    waiting: list[int] = []
    with Bench(tasks={"steps": Steps()}) as bench:
        bench.run(workflow(stage("only", task="steps")))
    assert waiting[0] < 10


def test_store_is_one_store_by_all_its_names(tmp_path: Path):
    """Two databases of one file would put out each other's lights, and bodies would be run twice."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    names = ["test.db", "sub/../test.db", "link/test.db", "link/link/sub/../test.db"]
    databases = [Database.open(f"sqlite:///{tmp_path}/{name}") for name in names]
    assert len({id(each) for each in databases}) == 1
    for database in databases:
        database.close()


def test_no_thread_for_the_event_loop_fails_a_body_and_no_other(no_thread, monkeypatch):
    """The first coroutine of a process begins the loop: when there is a thread for it, it does."""
    monkeypatch.setattr(loop, "_loop", None)

    class Wait(Task):
        async def execute(self, stage: Any) -> TaskResult:
            return TaskResult.success()

    with Engine(":memory:", workers=1) as engine:
        engine.registry.register("waits", Wait())
        no_thread.add("stabilize-async")
        run = engine.start(workflow(stage("only", task="waits")))
        run.wait(WAIT)
        assert (run.status.name, run.workflow.stages[0].error) == ("TERMINAL", "RuntimeError: can't start new thread")
        no_thread.clear()
        for _ in range(3):
            run = engine.start(workflow(stage("only", task="waits")))
            run.wait(WAIT)
            assert run.status.name == "SUCCEEDED"
    own = loop._loop
    own.call_soon_threadsafe(own.stop)
    while own.is_running():
        pass
    own.close()


def test_keeper_that_breaks_is_told_and_begun_again_by_a_start(monkeypatch, caplog):
    """Whatever breaks it: nothing is left half begun, and the next start works."""
    with Bench() as bench:
        flow = workflow(stage("only"))
        bench.begin(flow)
        monkeypatch.setattr(bench.processor, "_end_late_bodies", lambda: 1 // 0)
        bench.processor.start()
        while bench.processor.running:
            pass
        monkeypatch.undo()
        bench.processor.start()
        bench.processor.process_all(WAIT)
        assert bench.statuses(flow) == {"only": "SUCCEEDED"}
    assert "the keeper of a processor broke" in caplog.text
