"""What a step costs, in counts that do not depend on the machine (C11)."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.tasks.interface import NoOpTask
from stabilize_nb.verification import CallableVerifier
from tests.benchmarks.counts import Counts, counted
from tests.makers import Bench, chain, stage, workflow

if TYPE_CHECKING:
    from pathlib import Path

    from stabilize_nb.models.workflow import Workflow

pytestmark = pytest.mark.sqlite
#: Calls of Python functions that a stage with a task that does nothing may take.
CALLS = 650


class Verified(NoOpTask):
    """Does nothing, which is verified."""

    verifier = CallableVerifier(lambda stage: stage.outputs == {})


def metered(folder: Path, flow: Workflow) -> Counts:
    """Store, start and run a workflow to its end; everything is counted."""
    url = f"sqlite:///{folder}/{flow.id}.db"
    with Bench(url, durability="normal", tasks={"verified": Verified}) as bench:
        counts = counted(bench.database, lambda: bench.run(flow, timeout=300))
        assert bench.store.retrieve(flow.id).status is WorkflowStatus.SUCCEEDED
    return counts


@pytest.mark.parametrize("task", ["noop", "verified"])
def test_chain_makes_one_commit_a_stage(tmp_path: Path, task: str) -> None:
    """A chain of 100 tasks makes at most 110 commits in all, storing, starting and verifying included."""
    counts = metered(tmp_path, chain(100, task))

    print(f"commits for a chain of 100: {counts.commits}")
    assert counts.commits <= 110


def test_cost_of_a_stage_does_not_grow(tmp_path: Path) -> None:
    """A chain of 5,000 costs per stage at most 1.3 times what a chain of 100 costs in rows read and written."""
    small, large = metered(tmp_path, chain(100)), metered(tmp_path, chain(5_000))

    for name in ("commits", "queries", "rows_read", "rows_written", "steps"):
        a, b = getattr(small, name) / 100, getattr(large, name) / 5_000
        print(f"{name} a stage: {a:.1f} in a chain of 100, {b:.1f} in a chain of 5,000 ({b / a:.2f} times)")
        assert b <= 1.3 * a


def test_branch_of_a_wide_fan_costs_no_more_than_one_of_a_narrow_fan(tmp_path: Path) -> None:
    """A fan of 1,000 branches costs per branch at most 1.3 times what a fan of 50 costs; most wait for one thread."""

    def fan(width: int) -> Workflow:
        branches = [stage(f"b{at}", "a") for at in range(width)]
        return workflow(stage("a"), *branches, stage("j", *(f"b{at}" for at in range(width))))

    small, large = metered(tmp_path, fan(50)), metered(tmp_path, fan(1_000))

    for name in ("queries", "rows_read", "rows_written", "steps"):
        a, b = getattr(small, name) / 50, getattr(large, name) / 1_000
        print(f"{name} a branch: {a:.1f} in a fan of 50, {b:.1f} in a fan of 1,000 ({b / a:.2f} times)")
        assert b <= 1.3 * a


def test_cost_of_a_stage_does_not_grow_with_what_was_done_before(tmp_path: Path) -> None:
    """In a store with 300 runs a chain makes no more queries than in an empty one, which read no more."""
    with Bench(f"sqlite:///{tmp_path}/runs.db", durability="normal") as bench:
        empty = counted(bench.database, lambda: bench.run(chain(50)))
        bench.begin(*(chain(3) for _ in range(300)))
        bench.processor.process_all()
        full = counted(bench.database, lambda: bench.run(chain(50)))

    print(f"a chain of 50 in an empty store: {empty}, after 300 runs: {full}")
    for name in ("commits", "rows_written", "queries", "rows_read", "steps"):  # the keeper's are among them
        assert getattr(full, name) <= 1.05 * getattr(empty, name)


def test_calls_of_a_stage_do_not_grow() -> None:
    """A stage calls as many functions in a chain of 200 as in one of 50, and a processor keeps no memory of it."""
    words = [sys.executable, "-m", "tests.benchmarks.calls"]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout)
    print("calls a stage: {few:.0f} in a chain of 50, {many:.0f} in one of 200; {kept} blocks kept".format(**found))

    assert found["many"] <= 1.05 * found["few"]
    assert found["many"] <= CALLS
    assert found["kept"] < 200
