"""What a step costs, in counts that do not depend on the machine (C11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.tasks.interface import NoOpTask
from stabilize_nb.verification import CallableVerifier
from tests.makers import Bench, chain, stage, workflow

if TYPE_CHECKING:
    from pathlib import Path

    from stabilize_nb.models.workflow import Workflow

pytestmark = pytest.mark.sqlite


class Meter:
    """Counts the commits, rows and virtual machine steps of a connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.commits = 0
        self.rows_read = 0
        self.steps = 0
        self._changes = connection.total_changes()
        connection.set_commit_hook(self._commit)
        connection.trace_v2(apsw.SQLITE_TRACE_ROW | apsw.SQLITE_TRACE_PROFILE, self._trace)

    def _commit(self) -> bool:
        self.commits += 1
        return False

    def _trace(self, event: dict) -> None:
        if event["code"] == apsw.SQLITE_TRACE_ROW:
            self.rows_read += 1
        else:
            self.steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    @property
    def rows_written(self) -> int:
        """Rows inserted, updated or deleted."""
        return self.connection.total_changes() - self._changes


class Verified(NoOpTask):
    """Does nothing, which is verified."""

    verifier = CallableVerifier(lambda stage: stage.outputs == {})


def run_metered(folder: Path, flow: Workflow) -> Meter:
    """Store, start and run a workflow to its end; everything is counted."""
    url = f"sqlite:///{folder}/{flow.id}.db"
    with Bench(url, durability="normal", tasks={"verified": Verified}) as bench:
        meter = Meter(bench.database.writer.raw)
        done = bench.run(flow, timeout=300)
        assert done.status is WorkflowStatus.SUCCEEDED
        meter.rows_written_in_all = meter.rows_written
    return meter


@pytest.mark.parametrize("task", ["noop", "verified"])
def test_chain_makes_one_commit_a_stage(tmp_path: Path, task: str) -> None:
    """A chain of 100 tasks makes at most 110 commits in all, storing, starting and verifying included."""
    meter = run_metered(tmp_path, chain(100, task))

    print(f"commits for a chain of 100: {meter.commits}")
    assert meter.commits <= 110


def test_cost_of_a_stage_does_not_grow(tmp_path: Path) -> None:
    """A chain of 5,000 costs per stage at most 1.3 times what a chain of 100 costs in rows read and written."""
    small, large = run_metered(tmp_path, chain(100)), run_metered(tmp_path, chain(5_000))

    for name in ("rows_read", "rows_written_in_all", "steps"):
        a, b = getattr(small, name) / 100, getattr(large, name) / 5_000
        print(f"{name} a stage: {a:.1f} in a chain of 100, {b:.1f} in a chain of 5,000 ({b / a:.2f} times)")
        assert b <= 1.3 * a


def test_wide_join_reads_a_constant_number_of_rows_a_branch(tmp_path: Path) -> None:
    """A fan of 400 branches costs per branch at most 1.3 times what a fan of 50 costs."""

    def fan(width: int) -> Workflow:
        branches = [stage(f"b{at}", "a") for at in range(width)]
        return workflow(stage("a"), *branches, stage("j", *(f"b{at}" for at in range(width))))

    small, large = run_metered(tmp_path, fan(50)), run_metered(tmp_path, fan(400))

    for name in ("rows_read", "rows_written_in_all"):
        a, b = getattr(small, name) / 50, getattr(large, name) / 400
        print(f"{name} a branch: {a:.1f} in a fan of 50, {b:.1f} in a fan of 400 ({b / a:.2f} times)")
        assert b <= 1.3 * a
