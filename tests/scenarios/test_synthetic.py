"""Synthetic stages: what runs before, after and on failure of a stage's tasks is a part of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stabilize_nb import StageExecution, TaskExecution, TaskResult
from stabilize_nb.models.stage import SyntheticStageOwner
from stabilize_nb.stages.builder import StageDefinitionBuilder, register_builder, unregister_builder
from tests.makers import Bench, workflow
from tests.scenarios.case import (
    Case,
    cancel,
    expect,
    fails,
    inside,
    jumps,
    matrix,
    ok,
    sees,
    signal,
    soft,
    stage,
    waits,
)

if TYPE_CHECKING:
    from stabilize_nb.dag.graph import StageGraphBuilder
    from tests.scenarios.world import Call

BEFORE, AFTER, FAILURE = SyntheticStageOwner


def part(ref: str, parent: str, owner: SyntheticStageOwner, *after: str):
    """Add a synthetic stage with one task, whose body is that of its ref in the case."""

    def add(made: dict[str, StageExecution]) -> list[StageExecution]:
        tasks = [TaskExecution.create(ref, "script", stage_start=True, stage_end=True)]
        child = StageExecution.create_synthetic(ref, ref, made[parent], owner, tasks=tasks, ref_id=ref)
        child.requisite_stage_ref_ids = set(after)
        return [child]

    return add


def fails_once_seen(ref: str):
    """Fail once the stage `ref` runs."""

    def body(_stage: StageExecution, call: Call) -> TaskResult:
        call.world.until(lambda: call.world.statuses()[ref] == "RUNNING")
        return TaskResult.terminal("boom")

    return body


def goes_on_once_failed(ref: str):
    """Succeed once the stage `ref` has failed."""

    def body(_stage: StageExecution, call: Call) -> TaskResult:
        call.world.until(lambda: call.world.statuses()[ref] == "TERMINAL")
        return TaskResult.success()

    return body


def with_parts(case: Case) -> Case:
    """Give every part that says nothing else a body that succeeds."""
    return replace(case, bodies=dict.fromkeys(PARTS, ok()) | dict(case.bodies))


PARTS = ("check", "lock", "tell", "sign", "rollback", "page")
CASES = [
    Case(
        id="before, tasks, after",
        title="what comes before and after a stage's tasks is over before the next stage begins",
        everywhere=True,
        graph=(
            stage("a"),
            stage("d", "a"),
            stage("n", "d"),
            part("check", "d", BEFORE),
            part("lock", "d", BEFORE, "check"),
            part("tell", "d", AFTER),
            part("rollback", "d", FAILURE),
        ),
        steps=(
            expect(
                ran="a check lock d tell n",
                order="a check lock d tell n",
                statuses={"rollback": "SKIPPED", "d": "SUCCEEDED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="outputs of the parts",
        title="tasks see what came before them, parts after them see the stage, what follows sees all",
        graph=(
            stage("d", does=sees("ready", then=ok(version=7))),
            stage("n", "d", does=sees("ready", "version", "told")),
            part("check", "d", BEFORE),
            part("tell", "d", AFTER),
        ),
        bodies={"check": ok(ready=True), "tell": sees("version", then=ok(told=1))},
        steps=(
            expect(
                ran="check d tell n",
                noted={
                    "d": [{"ready": True}],
                    "tell": [{"version": 7}],
                    "n": [{"ready": True, "version": 7, "told": 1}],
                },
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="on failure",
        title="what is there for failure runs once a task has failed, and the stage has failed all the same",
        everywhere=True,
        graph=(
            stage("d", does=fails("boom")),
            stage("n", "d"),
            part("tell", "d", AFTER),
            part("rollback", "d", FAILURE),
            part("page", "d", FAILURE, "rollback"),
        ),
        steps=(
            expect(
                ran="d rollback page",
                statuses={"d": "TERMINAL", "tell": "SKIPPED", "rollback page": "SUCCEEDED", "n": "NOT_STARTED"},
                errors={"d": "boom"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="a part before fails",
        title="a stage fails with what had to come before it, and cleans up",
        graph=(stage("d"), part("check", "d", BEFORE), part("rollback", "d", FAILURE)),
        bodies={"check": fails("no access")},
        steps=(
            expect(
                ran="check rollback",
                statuses={"d": "TERMINAL", "check": "TERMINAL"},
                errors={"d": "no access"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="tolerated failure",
        title="a failure that the stage tolerates goes on after the clean-up; a soft one runs what comes after",
        graph=(
            stage("d", does=fails("boom"), context={"continuePipelineOnFailure": True}),
            stage("s", "d", does=soft()),
            stage("n", "s"),
            part("rollback", "d", FAILURE),
            part("tell", "s", AFTER),
        ),
        steps=(
            expect(
                ran="d rollback s tell n",
                statuses={"d s": "FAILED_CONTINUE"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="cancel in a part",
        title="cancelling a stage withdraws the part that runs and those to come",
        graph=(stage("d"), stage("n", "d"), part("check", "d", BEFORE), part("tell", "d", AFTER)),
        bodies={"check": waits()},
        steps=(
            expect(statuses={"d": "RUNNING", "check": "SUSPENDED"}, wf="RUNNING"),
            cancel("d"),
            expect(ran="", statuses={"d check tell": "CANCELED", "n": "NOT_STARTED"}, on_cancel="check", wf="CANCELED"),
        ),
    ),
    Case(
        id="a part waits",
        title="a gate before a stage's tasks holds them up",
        graph=(stage("d"), part("check", "d", BEFORE)),
        bodies={"check": waits()},
        steps=(signal("check"), expect(ran="check d", order="check d", wf="SUCCEEDED")),
    ),
    Case(
        id="parts in a loop",
        title="a jump back runs the parts again",
        graph=(
            stage("d"),
            stage("k", "d", does=jumps("d", 2)),
            part("check", "d", BEFORE),
            part("tell", "d", AFTER),
        ),
        steps=(expect(ran="check×3 d×3 tell×3 k", order="check d tell check d tell check d tell k", wf="SUCCEEDED"),),
    ),
    Case(
        id="failing beside a part",
        title="a stage that has begun is ended with its parts while another branch has failed",
        workers=2,
        graph=(
            stage("x", does=fails_once_seen("tell")),
            stage("d"),
            part("tell", "d", AFTER),
            part("sign", "d", AFTER, "tell"),
        ),
        bodies={"tell": goes_on_once_failed("x")},
        steps=(expect(ran="d tell sign x", statuses={"d sign": "SUCCEEDED", "x": "TERMINAL"}, wf="TERMINAL"),),
    ),
    Case(
        id="failing while a part waits",
        title="a stage whose part waits for a signal is withdrawn when another branch fails",
        graph=(stage("x", does=waits(then=fails("boom"))), stage("d"), part("tell", "d", AFTER)),
        bodies={"tell": waits()},
        steps=(
            signal("x"),
            expect(ran="d x", statuses={"d tell": "CANCELED", "x": "TERMINAL"}, on_cancel="tell", wf="TERMINAL"),
        ),
    ),
    Case(
        id="locked with its parts",
        title="a mutex is held through what comes before and after",
        workers=4,
        graph=(
            stage("d", mutex_key="k"),
            stage("o", mutex_key="k"),
            part("check", "d", BEFORE),
            part("tell", "d", AFTER),
        ),
        steps=(expect(ran="check d tell o", order=("check d tell o", "o check d tell"), wf="SUCCEEDED"),),
    ),
    Case(
        id="killed in a part",
        title="only the part in flight is executed again",
        crash=inside("check"),
        graph=(stage("d"), part("check", "d", BEFORE), part("tell", "d", AFTER)),
        steps=(expect(ran="check d tell", started="check×2 d tell", wf="SUCCEEDED"),),
    ),
]

test_synthetic = matrix([with_parts(case) for case in CASES])


class DeployBuilder(StageDefinitionBuilder):
    """Says what a stage of the type "deploy" consists of."""

    @property
    def type(self) -> str:
        return "deploy"

    def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
        return [TaskExecution.create("Deploy", "noop", stage_start=True, stage_end=True)]

    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(self._made("Validate", stage, BEFORE))

    def after_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(self._made("Notify", stage, AFTER))

    def on_failure_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(self._made("Rollback", stage, AFTER))

    def _made(self, name: str, parent: StageExecution, owner: SyntheticStageOwner) -> StageExecution:
        tasks = [TaskExecution.create(name, "noop", stage_start=True, stage_end=True)]
        return StageExecution.create_synthetic("noop", name, parent, owner, tasks=tasks)


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "file"])
def test_a_registered_builder_fills_stages_of_its_type(url, tmp_path):
    """The reference document's DeployStageBuilder, with tasks in create_synthetic, runs as the document says."""
    register_builder(DeployBuilder())
    try:
        with Bench(f"sqlite:///{tmp_path}/x.db" if url == "file" else url) as bench:
            flow = workflow(StageExecution(ref_id="d", type="deploy", name="Deploy"))
            made = bench.run(flow)
    finally:
        unregister_builder("deploy")
    statuses = {each.ref_id: each.status.name for each in made.stages}
    assert statuses == {
        "d": "SUCCEEDED",
        "d.before.validate": "SUCCEEDED",
        "d.after.notify": "SUCCEEDED",
        "d.failure.rollback": "SKIPPED",
    }
