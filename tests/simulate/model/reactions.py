"""What follows from a change of status beside the outcomes of edges, in the same moment."""

from __future__ import annotations

from tests.simulate.model import phases
from tests.simulate.model.ends import end_all
from tests.simulate.model.gates import enter, milestone
from tests.simulate.model.instances import parent_ended
from tests.simulate.model.joins import judge_again
from tests.simulate.model.orders import cancel_region, cancel_run
from tests.simulate.model.state import AFTER, BEFORE, COMPLETE, FAILURE, Case, Run


def settle(case: Case) -> None:
    """Let follow what follows, until nothing does."""
    while case.moved:
        run, status = case.moved.pop(0)
        if case.runs.get(run.name) is not run:
            continue
        if status in (BEFORE, AFTER, FAILURE):
            phases.begin(case, run)
        else:
            _look_up(case, run)
            _take_effect(case, run, status)


def _look_up(case: Case, moved: Run) -> None:
    """Let those who wait for a milestone look at it again."""
    for run in list(case.runs.values()):
        concerned = run.waits == "milestone" and moved.name in (case.plan(run).milestone[0], case.plan(run).until)
        if concerned and milestone(case, run) != "wait" and not case.ending:
            enter(case, run)


def _take_effect(case: Case, run: Run, status: str) -> None:
    stage = case.plan(run)
    if status in COMPLETE:
        phases.not_needed(case, run)
    if stage.parent and case.is_over(run):
        phases.part_over(case, run)
    if stage.many and run.is_first and status in COMPLETE:
        parent_ended(case, run)
    if status in ("SUCCEEDED", "FAILED_CONTINUE"):
        for ref in stage.cancels:
            for other in case.runs_of(ref):
                cancel_run(case, other)
        for region in stage.cancels_regions:
            cancel_region(case, region)
    may_end = not case.ending or (case.ending == "TERMINAL" and stage.ends == "CANCELED")
    if status == "SUCCEEDED" and stage.ends and may_end:
        end_all(case, stage.ends, "workflow_ended")
    if stage.jump_targets and case.is_over(run):
        judge_again(case)
