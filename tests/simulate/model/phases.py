"""Synthetic stages: parts of a stage that run before its tasks, after them, or when it fails (docs/decisions.md)."""

from __future__ import annotations

from tests.simulate.model.ends import end, fail, withdraw
from tests.simulate.model.gates import choose, enter
from tests.simulate.model.joins import activate
from tests.simulate.model.state import AFTER, BEFORE, FAILURE, LIVE, Case, Run, Word

WELL = frozenset({"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED"})


def begin(case: Case, run: Run) -> None:
    """Start those parts of the present phase that need no other."""
    for ref in case.parts(run, run.phase):
        part = case.runs[ref]
        if not case.places[ref].plan.after and part.status == "NOT_STARTED" and run.status == "RUNNING":
            enter(case, activate(case, case.places[ref], [Word(LIVE, run.name)]))
    parts = [case.runs[ref] for ref in case.parts(run, run.phase)]
    if all(case.is_over(part) for part in parts):
        part_over(case, parts[0])


def part_over(case: Case, part: Run) -> None:
    """A part is complete or blocked: its stage goes on when all of the phase are."""
    stage = case.plan(part)
    run = case.runs[stage.parent]
    if run.status != "RUNNING" or run.phase != stage.owner:
        return
    parts = [each for ref in case.parts(run, run.phase) for each in case.runs_of(ref)]
    broken = [each for each in parts if case.is_over(each) and each.status not in WELL]
    if broken and run.phase != FAILURE:
        for each in parts:
            withdraw(case, each, "workflow_failed")
        if broken[0].status == "CANCELED" and case.ending:
            withdraw(case, run, "workflow_failed")
        else:
            fail(case, run)
    elif any(each.status in ("TERMINAL", "CANCELED") and not case.places[each.ref].sent for each in broken):
        for each in parts:
            withdraw(case, each, "workflow_failed")
        _go_on(case, run, parts)
    elif all(case.is_over(each) for each in parts):
        _go_on(case, run, parts)


def _go_on(case: Case, run: Run, parts: list[Run]) -> None:
    own = {(part.ref, part.generation, part.output) for part in parts if part.output is not None}
    run.sees = run.sees.union(own, *(part.sees for part in parts))
    if run.phase == FAILURE:
        fail(case, run)
    elif run.phase == BEFORE and case.plan(run).tasks:
        run.phase = ""
    elif run.phase == BEFORE and case.parts(run, AFTER):
        choose(case, run)
        case.enter_phase(run, AFTER)
    else:
        choose(case, run)
        run.phase = ""
        end(case, run, "FAILED_CONTINUE" if run.soft else "SUCCEEDED", LIVE)


def not_needed(case: Case, run: Run) -> None:
    """A stage is over: its parts that did not begin are skipped."""
    for ref in case.parts(run, BEFORE, AFTER, FAILURE):
        for part in case.runs_of(ref):
            if part.status == "NOT_STARTED" and not case.is_over(part):
                case.places[ref].settled.add(1)
                end(case, part, "SKIPPED", "")
