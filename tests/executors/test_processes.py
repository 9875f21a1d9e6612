"""Bodies in a pool of processes: the same results, errors and prints, and what becomes of a pool that breaks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, process
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import Engine, Flow, Run, WorkflowStatus
from stabilize_nb.errors import ConfigError
from tests.executors import work
from tests.executors.work import Squaring, heavy, right
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 60.0
S = WorkflowStatus


def pool(workers: int = 2) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__name__])  # imported once, for all that are begun
    return ProcessPoolExecutor(workers, context)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """A pool that nothing breaks."""
    with pool() as made:
        yield made


@pytest.fixture
def engine(processes: ProcessPoolExecutor) -> Iterator[Engine]:
    with Engine(":memory:", executor=processes, workers=4) as made:
        yield made


def ran(engine: Engine, function: Callable[..., Any], inputs: dict[str, Any] | None = None, **words: Any) -> Run:
    """Run a flow of one stage to its end."""
    flow = Flow("one")
    flow.stage(function, name=function.__name__, **words)
    run = engine.start(flow, **inputs or {})
    run.wait(PATIENCE)
    return run


def causes(run: Run) -> list[str]:
    """Return why bodies were begun again."""
    events = run.events
    return [str(each["error"]) for each in events[events["type"] == "task.retried"]["data"]]


def test_bodies_run_in_other_processes(engine: Engine) -> None:
    """Stages of a flow are found there by their names; what only passes data on stays here."""
    run = engine.start(heavy, count=6)

    assert run.wait(PATIENCE) is S.SUCCEEDED
    assert run.outputs["total"]["sum"] == right(6)
    assert os.getpid() not in run.outputs["total"]["pids"]


def test_tasks_and_functions_of_a_registry(engine: Engine) -> None:
    """A Task class gets its stage there."""
    engine.registry.register("square", Squaring)
    engine.registry.register("prints", work.prints)
    run = engine.start(workflow(stage("a", task="square", context={"number": 7}), stage("b", "a", task="prints")))
    run.wait(PATIENCE)

    assert run.outputs["a"]["square"] == 49
    assert run.outputs["a"]["pid"] != os.getpid()
    assert str(run.log("b")) == "one\ntwo\n"


def test_code_without_a_name(engine: Engine) -> None:
    """A function of a notebook or within another one crosses as cloudpickle writes it."""
    here = {"factor": 3}

    def scaled(number: int) -> list[int]:
        return [number * here["factor"], os.getpid()]

    result = ran(engine, scaled, {"number": 5}).result(PATIENCE)

    assert (result[0], result[1] != os.getpid()) == (15, True)


def test_errors_are_those_of_the_body(engine: Engine, tmp_path: Path) -> None:
    """What passes is tried again, what does not fails with the traceback of the other process."""
    broken = ran(engine, work.breaks)
    mended = ran(engine, work.flaky, {"folder": str(tmp_path)})
    odd = ran(engine, work.fails, retry=0)

    assert "ValueError: broken for good" in str(broken.workflow.error)
    assert 'raise ValueError("broken for good")' in str(
        broken.workflow.stages[0].context["exception"]["details"]["traceback"]
    )
    assert mended.result(PATIENCE) == "at last"
    assert causes(mended) == ["TransientError: not yet (code=3)"]
    assert "TransientError: OddError: ab" in str(odd.workflow.error)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (work.odd, "it returned generator, which cannot be sent back"),
        (work.journals, "stage.step needs the store, which only the engine's process has: make it a stage of its own"),
    ],
)
def test_what_cannot_be_done_there_says_so(engine: Engine, function: Any, sentence: str) -> None:
    """One sentence in place of a hang."""
    assert sentence in str(ran(engine, function).workflow.error)


def test_progress_and_jumps(engine: Engine) -> None:
    """Progress comes with the prints; a jump goes where it leads; the key of the call is known."""
    told = ran(engine, work.tells)
    jumped = ran(engine, work.again)

    assert str(told.log()) == "tells: progress 50%: half {'part': 1}\n"
    assert told.result(PATIENCE).endswith(":0:0")
    assert jumped.outputs["again"] == {"turns": 1}


def test_what_takes_too_long_is_given_up(engine: Engine) -> None:
    """The time limit is that of a thread's body: the stage fails, and the process is left to itself."""
    hung = ran(engine, work.hangs, timeout=0.2)

    assert "task 'hangs' of stage 'hangs' timed out after 0.2 s" in str(hung.workflow.error)


def test_only_some_queues_have_an_executor(processes: ProcessPoolExecutor) -> None:
    """Others, coroutines, and what is run at most once, stay in the engine's process."""
    flow = Flow("mixed")
    for name, words in {"far": {"queue": "cpu"}, "near": {}, "once": {"queue": "cpu", "on_crash": "fail"}}.items():
        flow.stage(name=name, **words)(os.getpid)

    @flow.stage(queue="cpu")
    async def waits() -> int:
        return os.getpid()

    with Engine(":memory:", executor={"cpu": processes}) as engine:
        run = engine.start(flow)
        run.wait(PATIENCE)
        here = {name for name, outputs in run.outputs.items() if outputs["result"] == os.getpid()}

    assert here == {"near", "once", "waits"}


def test_no_more_bodies_are_there_than_there_are_workers() -> None:
    """A body in an executor keeps its place, so a queue of thousands is left to other workers."""

    class Slow(Executor):
        def __init__(self) -> None:
            self.most = 0
            self.calls: list[tuple[Future[Any], Any, Any]] = []
            self.full = threading.Event()

        def submit(self, function: Any, /, *args: Any, **_: Any) -> Future[Any]:
            future: Future[Any] = Future()
            self.calls.append((future, function, args))
            if len(self.calls) == 3:
                self.full.set()
            return future

    slow = Slow()
    with Engine(":memory:", executor=slow, workers=3) as engine:
        run = engine.start(heavy, count=20)
        while not run.status.is_complete:
            if slow.full.wait(0.05):
                assert len(slow.calls) == 3
                slow.full.clear()
            calls, slow.calls = slow.calls, []
            for future, function, args in calls:
                future.set_result(function(*args))

        assert run.outputs["total"]["sum"] == right(20)


def test_killed_process_is_a_retry_with_its_cause(tmp_path: Path) -> None:
    """The pool is made anew, those that were beside are begun again alone, and the result is right."""
    with pool() as broken, Engine(":memory:", executor=broken, workers=4) as engine:
        run = engine.start(heavy, count=8, folder=str(tmp_path), victims=2)

        assert run.wait(PATIENCE) is S.SUCCEEDED
        assert run.outputs["total"]["sum"] == right(8)
        assert 2 <= len(causes(run)) <= 8
        assert all(
            cause.startswith("ProcessLostError: the process of ProcessPoolExecutor that ran it died")
            for cause in causes(run)
        )


def test_pool_that_breaks_while_it_begins_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython would wait for that process for ever, and so would whoever closes the pool."""
    broken, beginning, ended, begun = (threading.Event() for _ in range(4))
    manager = process._ExecutorManagerThread
    terminate, join = manager.terminate_broken, manager.join_executor_internals
    begin = ProcessPoolExecutor._adjust_process_count

    def terminate_later(thread: Any, cause: Any) -> None:
        broken.set()
        assert beginning.wait(PATIENCE)
        terminate(thread, cause)

    def join_later(thread: Any) -> None:
        ended.set()
        assert begun.wait(PATIENCE)
        join(thread)

    def begin_later(executor: ProcessPoolExecutor) -> None:
        if executor is not breaking:
            begin(executor)
            return
        known, executor._processes = executor._processes, {}
        executor._idle_worker_semaphore.acquire(blocking=False)
        begin(executor)
        beginning.set()
        assert ended.wait(PATIENCE)
        known.update(executor._processes)
        executor._processes = known
        begun.set()

    with pool() as breaking:
        pid = breaking.submit(os.getpid).result(PATIENCE)
        monkeypatch.setattr(manager, "terminate_broken", terminate_later)
        monkeypatch.setattr(manager, "join_executor_internals", join_later)
        monkeypatch.setattr(ProcessPoolExecutor, "_adjust_process_count", begin_later)
        os.kill(pid, signal.SIGKILL)
        assert broken.wait(PATIENCE)
        with Engine(":memory:", executor=breaking, workers=1) as engine:
            assert ran(engine, work.prints).result(PATIENCE) == "printed"


def test_body_that_always_kills_its_process_is_given_up(tmp_path: Path) -> None:
    """It says why; a limit of retries holds for failures, but ends this too."""

    def dies() -> None:
        os.abort()

    with Engine(":memory:", executor=pool, workers=4) as engine:
        run = ran(engine, dies, retry=0)

        assert run.status is S.TERMINAL
        assert "that ran it died" in str(run.workflow.error)
        assert len(causes(run)) == 2
        assert ran(engine, work.prints).result(PATIENCE) == "printed"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "executor is 3; a concurrent.futures.Executor is expected"),
        ({"cpu": "dask"}, "executor is 'dask'"),
        (type("Client", (), {"get_executor": None})(), r"what its get_executor\(\) returns is expected"),
    ],
    ids=["number", "text", "client"],
)
def test_what_is_no_executor_is_refused(given: Any, sentence: str) -> None:
    """When the engine is opened."""
    with pytest.raises(ConfigError, match=sentence):
        Engine(":memory:", executor=given)


def test_executor_that_was_shut_down(tmp_path: Path) -> None:
    """It takes nothing: the body is tried again, and says why."""
    ended = ThreadPoolExecutor(1)
    ended.shutdown()
    flow = Flow("late")
    flow.stage(work.prints, name="prints")
    with Engine(":memory:", executor=ended) as engine:
        run = engine.start(flow)
        news = engine.database.changes.ticket()
        while not causes(run):
            news.wait(0.1)

        assert "cannot schedule new futures after shutdown" in causes(run)[0]
