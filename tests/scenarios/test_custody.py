"""Engines that hold on to their own runs: what was started elsewhere is left alone until somebody takes it up."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stabilize_nb import Engine, Flow, WaitingForResume, WorkflowStatus
from stabilize_nb.queue.messages import StartWorkflow
from tests.stores import place_of

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 20.0
S = WorkflowStatus


def essay() -> Flow:
    flow = Flow("essay")

    @flow.stage
    def draft(question: str) -> str:
        return question.upper()

    flow.approval("Good?", name="good", after="draft")

    @flow.stage(after="good")
    def publish(draft: str) -> str:
        return f"{draft}!"

    return flow


def holding(path: Path) -> Engine:
    engine = Engine(path, durability="normal")
    engine.hold()
    engine.define(essay())
    return engine


def left(engine: Engine) -> str:
    """Store a run that is due, of an engine that has ended."""
    workflow = essay().build(question="left")
    engine.store.store(workflow, StartWorkflow(execution_id=workflow.id), owner="01GONE")
    return workflow.id


def test_starting_one_run_leaves_the_others_alone(tmp_path):
    """What an earlier process left goes on when it is resumed, not when something else is begun."""
    with holding(tmp_path / "runs.db") as engine:
        run_id = left(engine)
        own = engine.start(essay(), question="own")
        own.until_gate(PATIENCE)
        own.approve()

        assert own.result(PATIENCE) == "OWN!"
        assert engine.run(run_id).status is S.NOT_STARTED
        assert engine.owner_of(run_id) is None
        (resumed,) = engine.resume(run_id)
        assert [gate.name for gate in resumed.until_gate(PATIENCE)] == ["good"]
        assert engine.owner_of(run_id).id == engine.processor.owner


def test_engine_that_shares_works_at_everything(tmp_path):
    """A script goes on with whatever its store holds."""
    with Engine(tmp_path / "runs.db", durability="normal") as engine:
        engine.define(essay())
        run_id = left(engine)
        engine.start(essay(), question="own")

        assert engine.run(run_id).until_gate(PATIENCE)


def test_asking_for_the_result_of_a_run_that_nobody_works_at(tmp_path):
    """There is no waiting for what nobody does: the error names the order that goes on with it."""
    with holding(tmp_path / "runs.db") as engine:
        run = engine.run(left(engine))
        engine.start(essay(), question="own").until_gate(PATIENCE)

        for wait in (run.result, run.wait, run.until_gate):
            with pytest.raises(WaitingForResume, match=rf"%workflow resume {run.id}"):
                wait(PATIENCE)


def test_order_takes_a_run_up(tmp_path):
    """Whoever decides or cancels means that run; it needs no other word."""
    with holding(tmp_path / "runs.db") as engine:
        run = engine.run(left(engine))
        run.cancel()

        assert run.wait(PATIENCE) is S.CANCELED


def test_child_belongs_to_whoever_works_at_its_parent(tmp_path):
    """A flow that is called is begun, and taken up, with the one that calls it."""
    outer = Flow("outer")
    outer.call(essay(), name="inner")
    with holding(tmp_path / "runs.db") as engine:
        run = engine.start(outer, question="a")
        while not (gates := engine.inbox()):
            engine.database.changes.ticket().wait(0.1)

        assert gates[0].run_id != run.id
        assert engine.owner_of(gates[0].run_id).id == engine.processor.owner
    with holding(tmp_path / "runs.db") as engine:
        engine.define(outer)
        engine.resume(run.id)
        assert engine.owner_of(gates[0].run_id).id == engine.processor.owner
        engine.run(gates[0].run_id).approve()
        assert engine.run(run.id).wait(PATIENCE) is S.SUCCEEDED


OTHER = """
import sys
from tests.scenarios.test_custody import essay, holding

engine = holding(sys.argv[1])
run = engine.start(essay(), question="other")
run.until_gate(20)
print(run.id, flush=True)
sys.stdin.read()
"""


def test_run_of_another_process_is_watched_decided_and_taken_over(tmp_path):
    """It is named with its process, a decision reaches it there, and who resumed it works at it when that one dies."""
    path = tmp_path / "runs.db"
    command = [sys.executable, "-c", OTHER, place_of(path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        holding(path) as engine,
    ):
        run = engine.run(process.stdout.readline().strip())
        assert engine.owner_of(run.id).pid == process.pid
        engine.resume(run.id)
        assert engine.owner_of(run.id).pid == process.pid
        process.kill()
        process.wait()
        run.approve()

        assert run.result(PATIENCE) == "OTHER!"
        assert engine.owner_of(run.id).id == engine.processor.owner


def test_fork_leaves_children_of_its_origin_to_whoever_has_them(tmp_path):
    """What a fork has copied names a child that another engine works at: it stays there."""
    outer = Flow("outer")

    @outer.stage
    def first():
        return 1

    outer.call(essay(), name="inner", after="first")
    with holding(tmp_path / "runs.db") as mine, holding(tmp_path / "runs.db") as other:
        other.define(outer)
        run = mine.start(outer, question="a")
        while not (gates := mine.inbox()):
            mine.database.changes.ticket().wait(0.1)
        fork = other.run(run.id).fork("first")

        assert fork.engine.owner_of(fork.id).id == other.processor.owner
        assert mine.owner_of(gates[0].run_id).id == mine.processor.owner
        for each in (run, fork):
            each.cancel()
            assert each.wait(PATIENCE) is S.CANCELED
