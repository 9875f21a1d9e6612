"""What comes at once of one workflow is decided together and written once; what cannot be is decided one by one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb.handlers import HANDLERS
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import TaskFinished
from stabilize_nb.queue.processor import QueueProcessorConfig
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult
from tests.benchmarks.counts import Counts, counted
from tests.makers import Bench, stage, workflow

if TYPE_CHECKING:
    from pathlib import Path

    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow

WIDTH = 40
QUICK = QueueProcessorConfig(max_deliveries=2, retry_delay=0.001)


class Gathering(Task):
    """Ends once all branches of the fan have begun, so that all of them end at once."""

    def __init__(self) -> None:
        self.begun = 0
        self.all_here = asyncio.Event()

    async def execute(self, stage: StageExecution) -> TaskResult:
        self.begun += 1
        if self.begun >= WIDTH:
            self.all_here.set()
        await self.all_here.wait()
        return TaskResult.success(outputs={stage.ref_id: self.begun})


def fan() -> Workflow:
    """Make a fan whose branches wait for each other."""
    branches = [f"b{at}" for at in range(WIDTH)]
    return workflow(stage("a"), *(stage(ref, "a", task="gather") for ref in branches), stage("j", *branches))


def run(url: str, config: QueueProcessorConfig) -> tuple[Counts, Any, list[str]]:
    """Run the fan; return what it cost, its picture, and what its log says, in any order."""
    with Bench(url, durability="normal", config=config, tasks={"gather": Gathering()}) as bench:
        flow = fan()
        counts = counted(bench.database, lambda: bench.run(flow))
        told = bench.sql("SELECT type FROM event WHERE workflow_id = ?", flow.id)
        return counts, bench.store.retrieve(flow.id), sorted(row[0] for row in told)


@pytest.mark.sqlite
def test_what_ends_at_once_is_written_once(tmp_path: Path) -> None:
    """Forty branches that end at once cost a third fewer queries than one by one, and come to the same."""
    apart, flow_apart, told_apart = run(f"sqlite:///{tmp_path}/apart.db", QueueProcessorConfig(fold_budget=1))
    counts, flow, told = run(f"sqlite:///{tmp_path}/together.db", QueueProcessorConfig())

    print(f"queries for {WIDTH} branches: {counts.queries} together, {apart.queries} one by one")
    assert counts.queries < apart.queries * 2 / 3
    assert told == told_apart
    for one in (flow, flow_apart):
        assert one.status is WorkflowStatus.SUCCEEDED
        assert {each.status for each in one.stages} == {WorkflowStatus.SUCCEEDED}
        assert {f"b{at}" for at in range(WIDTH)} <= {key for each in one.stages for key in each.outputs}


def test_one_that_cannot_be_decided_spoils_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of forty outcomes that come at once, one cannot be decided: it is a dead letter, the others are committed."""
    decide = HANDLERS[TaskFinished]

    def fails_for_one(draft: Any, message: Any) -> None:
        row = draft.find(message.stage_id)
        if row is not None and row.ref_id == "b7":
            msg = "not this one"
            raise ValueError(msg)
        decide(draft, message)

    monkeypatch.setitem(HANDLERS, TaskFinished, fails_for_one)
    with Bench(config=QUICK, tasks={"gather": Gathering()}) as bench:
        flow = fan()
        bench.run(flow)
        statuses = bench.statuses(flow)
        dead = bench.sql("SELECT kind, error FROM message WHERE dead_at IS NOT NULL")

    assert {ref for ref, status in statuses.items() if status == "SUCCEEDED"} == {
        "a", *(f"b{at}" for at in range(WIDTH) if at != 7)
    }  # fmt: skip
    assert [tuple(row) for row in dead] == [("RunTask", "ValueError: not this one")]
