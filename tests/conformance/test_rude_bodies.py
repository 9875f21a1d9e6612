"""What code of users does to the engine that runs it: it ends late, never, or everything, and nobody else notices."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stabilize_nb import Engine, Flow, Task, TaskResult, TransientError
from stabilize_nb.queue.processor import processor
from tests.makers import stage, workflow

WAIT = 20.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give an engine with two places for bodies."""
    with Engine(":memory:", workers=2) as opened:
        opened.registry.register("brief", Brief())
        yield opened


class Brief(Task):
    """A body that takes no time."""

    def execute(self, stage: Any) -> TaskResult:
        """End."""
        return TaskResult.success()


def task_of(**own: Callable[..., Any] | float) -> Task:
    """Make a task of functions and settings."""
    made: Task = type("Rude", (Task,), own)()
    return made


def ended(engine: Engine, name: str, **context: Any) -> tuple[str, str]:
    """Run a workflow of one stage; return how it has ended, and its error."""
    run = engine.start(workflow(stage("only", task=name, context=context)))
    run.wait(WAIT)
    return run.status.name, run.workflow.stages[0].error or ""


def leave(*_: Any) -> None:
    """End the interpreter, as argparse does."""
    sys.exit(3)


def test_hook_that_takes_its_time_keeps_no_other_body_from_its_limit(engine):
    """The hook of a body that is late runs beside the keeper, which renews claims and ends what else is late."""
    asked, go_on, bodies = threading.Event(), threading.Event(), threading.Event()

    def slow_hook(_self: Any, _stage: Any) -> None:
        asked.set()
        assert go_on.wait(WAIT)

    engine.registry.register("slow", task_of(timeout=0.05, execute=lambda *_: bodies.wait(WAIT), on_timeout=slow_hook))
    engine.registry.register("late", task_of(timeout=0.05, execute=lambda *_: bodies.wait(WAIT)))
    run = engine.start(workflow(stage("slow", task="slow")))
    assert asked.wait(WAIT)
    status, error = ended(engine, "late")
    assert (status, "timed out after 0.05 s" in error) == ("TERMINAL", True)
    assert not run.status.is_complete
    go_on.set()
    run.wait(WAIT)
    assert run.status.name == "TERMINAL"
    bodies.set()


def test_hook_that_ends_the_interpreter_ends_its_body_alone(engine):
    """`sys.exit` in on_timeout fails the stage with a sentence; limits are kept after that."""
    bodies = threading.Event()
    engine.registry.register("rude", task_of(timeout=0.05, execute=lambda *_: bodies.wait(WAIT), on_timeout=leave))
    for _ in range(2):
        status, error = ended(engine, "rude")
        assert (status, error.partition("; its ")[2]) == ("TERMINAL", "on_timeout hook failed: SystemExit(3)")
    bodies.set()


def test_limit_that_cannot_be_read_fails_the_stage(engine):
    """What a task says of itself is code of users, too."""
    engine.registry.register("odd", task_of(execute=lambda *_: None, timeout=property(leave)))
    assert ended(engine, "odd") == ("TERMINAL", "task 'only' of stage 'only' could not be begun: SystemExit(3)")
    assert ended(engine, "brief")[0] == "SUCCEEDED"


def test_clean_up_that_ends_the_interpreter_gives_its_place_back(engine, caplog):
    """After more withdrawals than there are places, bodies run."""
    begun = threading.Semaphore(0)
    bodies = threading.Event()

    def wait(*_: Any) -> TaskResult:
        begun.release()
        assert bodies.wait(WAIT)
        return TaskResult.success()

    engine.registry.register("rude", task_of(execute=wait, on_cancel=leave))
    runs = [engine.start(workflow(stage("only", task="rude"))) for _ in range(2)]
    for run in runs:
        assert begun.acquire(timeout=WAIT)
        run.cancel()
        run.wait(WAIT)
    bodies.set()
    assert ended(engine, "brief")[0] == "SUCCEEDED"
    assert sum("on_cancel of task 'only'" in each.message for each in caplog.records) == len(runs)


@pytest.mark.parametrize("inner", ["wait_for", "create_task"])
def test_task_that_ends_the_interpreter_on_the_loop_ends_its_body_alone(engine, inner):
    """asyncio lets SystemExit out of its loop: those that wait there go on, and so does what is begun after that."""
    begun, go_on = threading.Event(), threading.Event()

    async def wait(*_: Any) -> TaskResult:
        begun.set()
        assert await asyncio.to_thread(go_on.wait, WAIT)
        return TaskResult.success()

    async def parse(*_: Any) -> None:
        async def exits() -> None:
            sys.exit(2)

        work = exits() if inner == "wait_for" else asyncio.create_task(exits())
        await asyncio.wait_for(work, WAIT)

    engine.registry.register("waits", task_of(execute=wait))
    engine.registry.register("parses", task_of(execute=parse))
    run = engine.start(workflow(stage("only", task="waits")))
    assert begun.wait(WAIT)
    status, error = ended(engine, "parses")
    assert (status, error) == ("TERMINAL", "SystemExit: 2")
    go_on.set()
    run.wait(WAIT)
    assert run.status.name == "SUCCEEDED"
    assert ended(engine, "waits")[0] == "SUCCEEDED"


def test_what_a_body_gives_to_await_after_its_time_is_not_awaited(engine):
    """Its place was given to another already: all places are there afterwards, and nothing hangs."""
    effects: list[str] = []
    go_on = threading.Event()

    def late(*_: Any) -> Any:
        assert go_on.wait(WAIT)

        async def more() -> TaskResult:
            effects.append("after the end")
            return TaskResult.success()

        return more()

    engine.registry.register("late", task_of(timeout=0.05, execute=late))
    for _ in range(3):
        assert ended(engine, "late")[0] == "TERMINAL"
    go_on.set()
    desk = engine.processor.desk
    for _ in range(4):
        assert ended(engine, "brief")[0] == "SUCCEEDED"
    engine.processor.stop()
    assert (effects, desk.in_threads, desk.workers, desk.free_slots()) == ([], 0, 0, 0)


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
def test_close_keeps_what_it_has_waited_for(tmp_path: Path, kind: str):
    """A body that ends while its engine is closed is committed, and never run again (C3)."""
    url = f"sqlite:///{tmp_path}/test.db"
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def work() -> TaskResult:
        calls.append("paid")
        return TaskResult.success()

    async def wait(*_: Any) -> TaskResult:
        begun.set()
        assert await asyncio.to_thread(go_on.wait, WAIT)
        return work()

    def block(*_: Any) -> TaskResult:
        begun.set()
        assert go_on.wait(WAIT)
        return work()

    pay = task_of(execute=wait if kind == "coroutine" else block)
    engine = Engine(url)
    engine.registry.register("pay", pay)
    run_id = engine.start(workflow(stage("pay", task="pay", on_crash="fail"), stage("then", "pay"))).id
    assert begun.wait(WAIT)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while engine.processor.desk.hired:
        pass
    go_on.set()
    closing.join(WAIT)
    with Engine(url) as again:
        again.registry.register("pay", pay)
        again.resume()
        run = again.run(run_id)
        run.wait(WAIT)
        assert (run.status.name, calls) == ("SUCCEEDED", ["paid"])


def test_steps_that_go_on_at_once_get_their_own_results_again(engine):
    """Steps of one name are told apart by the order in which they began, whatever thread has looked for them first."""
    seen: dict[str, list[list[str]]] = {}

    async def ask(stage: Any) -> TaskResult:
        async def model(question: str) -> str:
            await asyncio.sleep(0)
            return f"answer to {question}"

        tries = seen.setdefault(stage.id, [])
        tries.append(await asyncio.gather(*(stage.step_async("ask", model, f"q{at}") for at in range(8))))
        if len(tries) == 1:
            raise TransientError("once more", retry_after=0)
        return TaskResult.success()

    engine.registry.register("asks", task_of(execute=lambda self, stage: ask(stage)))
    runs = [engine.start(workflow(stage("only", task="asks"))) for _ in range(40)]
    for run in runs:
        run.wait(WAIT)
    assert len(seen) == len(runs)
    assert [tries for tries in seen.values() if tries[0] != tries[1] or tries[0][0] != "answer to q0"] == []


@pytest.mark.parametrize("how", ["run", "stage", "race"])
def test_coroutine_that_nobody_wants_any_more_is_cancelled(how: str):
    """A cancelled run, a cancelled stage, the loser of a race: what it would have done is not done afterwards."""
    begun, effects = threading.Event(), []
    flow = Flow("race")

    @flow.stage
    async def pay() -> None:
        try:
            begun.set()
            await asyncio.sleep(WAIT)
            effects.append("paid")
        except asyncio.CancelledError:
            effects.append("broken off")
            raise

    @flow.stage
    async def quick() -> int:
        await asyncio.to_thread(begun.wait, WAIT)
        return 1

    @flow.stage(after=[pay, quick], join="any", cancel_rest=how == "race")
    def first() -> None:
        pass

    with Engine(":memory:") as engine:
        run = engine.start(flow)
        assert begun.wait(WAIT)
        if how != "race":
            run.cancel(*(["pay"] if how == "stage" else []))
        run.wait(WAIT)
        engine.close()
    assert effects == ["broken off"]


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
def test_who_closes_an_engine_is_told_what_it_waits_for(monkeypatch, caplog, kind: str):
    """A script that stands still at its end says why."""
    monkeypatch.setattr(processor, "PATIENCE", 0.01)
    go_on = threading.Event()

    async def wait(*_: Any) -> TaskResult:
        assert await asyncio.to_thread(go_on.wait, WAIT)
        return TaskResult.success()

    def block(*_: Any) -> TaskResult:
        assert go_on.wait(WAIT)
        return TaskResult.success()

    engine = Engine(":memory:")
    engine.registry.register("slow", task_of(execute=wait if kind == "coroutine" else block))
    run = engine.start(workflow(stage("long", task="slow")))
    while not engine.processor.desk.running:
        pass
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not caplog.records:
        pass
    go_on.set()
    closing.join(WAIT)
    [said] = caplog.messages
    assert said.startswith("waiting for what is at work, ")
    assert said.endswith(f" s at most: stage 'long' of run {run.id}")


def test_step_that_calls_an_async_function_in_a_thread_is_told_how(engine):
    """Nothing is left that was never awaited, and the sentence has what to write."""

    async def later() -> int:
        return 1

    engine.registry.register("odd", task_of(execute=lambda self, stage: stage.step("later", later)))
    status, error = ended(engine, "odd")
    assert (status, "write `await stage.step_async(...)`" in error) == ("TERMINAL", True)
