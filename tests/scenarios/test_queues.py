"""Workers that take only some tasks: what each leaves to the others, and what is said about what nobody takes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import Engine, Flow, QueueProcessorConfig, TaskRegistry, WorkflowStatus
from stabilize_nb.errors import ConfigError
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 20.0
S = WorkflowStatus


class Notes:
    """Who has run what; an object, since values that code encloses belong to its print."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def by(self, name: str) -> Callable[[str], None]:
        """Return what one of them writes with."""
        return _By(self.lines, name)


class _By:
    def __init__(self, lines: list[str], name: str) -> None:
        self.lines = lines
        self.name = name

    def __call__(self, what: str) -> None:
        self.lines.append(f"{what} {self.name}")


def training(note: Callable[[str], None]) -> Flow:
    """Make a flow with one stage for any worker, and two for those with a GPU; each notes who has run it."""
    flow = Flow("training")

    @flow.stage
    def load() -> int:
        note("load")
        return 3

    @flow.stage(queue="gpu")
    def train(load: int) -> int:
        note("train")
        return load * 2

    @train.on_success
    def sum_up(train: int) -> None:
        note("sum_up")

    return flow


def opened(path: Path, flow: Flow | None = None, **words: Any) -> Engine:
    engine = Engine(path / "runs.db", durability="normal", **words)
    if flow is not None:
        engine.define(flow)
    engine.work()
    return engine


def heard(engine: Engine, holds: Callable[[], bool]) -> None:
    """Wait until something holds, looked at after each commit and each second."""
    news = threading.Event()
    engine.database.changes.subscribe(news.set)
    try:
        for _ in range(200):
            if holds():
                return
            news.wait(0.1)
            news.clear()
    finally:
        engine.database.changes.unsubscribe(news.set)
    pytest.fail("waited too long")


def test_labelled_stages_are_run_by_those_who_take_the_label(tmp_path: Path) -> None:
    """One worker takes what has no label, the other what is labelled, with what belongs to it; both know all code."""
    notes = Notes()
    here = training(notes.by("here"))
    with (
        opened(tmp_path, here, only=["default"]) as engine,
        opened(tmp_path, training(notes.by("there")), only=["gpu"]),
    ):
        run = engine.start(here)

        assert run.result(PATIENCE) == 6
    assert notes.lines == ["load here", "train there", "sum_up there"]


def test_task_may_be_named_instead_of_a_label(tmp_path: Path) -> None:
    """`only` names tasks as they are registered; a label may be given there too."""
    done: list[str] = []
    registry = TaskRegistry()
    registry.register("scan", lambda: done.append("scan"))
    registry.register("print", lambda: done.append("print"), queue="paper")
    registry.register("bind", lambda: done.append("bind"), queue="paper")
    with Engine(":memory:", registry=registry, only=["scan", "paper"]) as engine:
        run = engine.start(
            workflow(stage("a", task="scan"), stage("b", "a", task="print"), stage("c", "b", task="noop"))
        )
        heard(engine, lambda: run.workflow.stages[2].status is S.RUNNING)

        assert done == ["scan", "print"]
        assert run.explain()[0] == "waits for a worker: task 'noop' is in the queue 'default', and no worker takes it"


def test_what_nobody_knows_waits_and_says_so(tmp_path: Path) -> None:
    """An unknown task is neither tried nor buried; when a worker that knows it comes, that one does it."""
    flow = training(Notes().by("any"))
    with opened(tmp_path) as ignorant:
        knowing = opened(tmp_path, flow, only=["default"])
        run = knowing.start(flow)
        heard(ignorant, lambda: "train" in str(knowing.run(run.id).explain()))
        queued = knowing.run(run.id).explain()
        knowing.close()
        left = ignorant.run(run.id)

        assert queued[0] == "waits for a worker: task 'training.train' is in the queue 'gpu', and no worker takes it"
        assert left.explain()[0] == (
            "waits for code: task 'training.train' is not registered in this process, and no worker knows it"
        )
        with opened(tmp_path, flow, only=["gpu"]):
            assert left.wait(PATIENCE) is S.SUCCEEDED
        task = left.workflow.stages[1].tasks[0]
        assert (task.attempt, list(ignorant.dead_letters()["message_id"])) == (1, [])


def test_what_another_worker_knows_is_waited_for(tmp_path: Path) -> None:
    """Who only starts a run needs none of its code: the wait goes on while a worker at work has it."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go_on.wait(PATIENCE)
        return "done"

    flow = Flow("slow")
    flow.stage(slow)
    with opened(tmp_path, flow, workers=1) as worker, opened(tmp_path) as starter:
        first = worker.start(flow)
        begun.wait(PATIENCE)
        second = worker.start(flow)
        asked = starter.run(second.id)
        heard(starter, lambda: "run by 1 of those at work" in str(asked.explain()))
        go_on.set()

        assert asked.wait(PATIENCE) is S.SUCCEEDED
        assert first.wait(PATIENCE) is S.SUCCEEDED


def test_older_worker_leaves_newer_code_to_others(tmp_path: Path) -> None:
    """A rolling upgrade: two versions of a flow at work, and each run goes on with the one it was started with."""

    def version(number: int) -> Flow:
        flow = Flow("upgrade")

        @flow.stage
        def price() -> int:
            return number

        flow.approval("Go on?", name="gate", after="price")

        @flow.stage(after="gate")
        def charge(price: int) -> list[int]:
            return [price, number]

        return flow

    with opened(tmp_path, version(1)) as old, opened(tmp_path, version(2)) as new:
        runs = [old.start(version(1)), new.start(version(2)), old.start(version(1))]
        for run in runs:
            run.until_gate(PATIENCE)
            run.approve()

        assert [run.result(PATIENCE) for run in runs] == [[1, 1], [2, 2], [1, 1]]


def test_text_is_no_list_of_labels() -> None:
    """`only="gpu"` would be three labels of one letter."""
    with pytest.raises(ConfigError, match=r"only is 'gpu'; a list of queues or tasks is expected: \['gpu'\]"):
        QueueProcessorConfig(only="gpu")
