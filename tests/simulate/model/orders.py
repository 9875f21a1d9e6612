"""Orders from outside, and those that the model of a workflow gives (WCP-19, 20, 25)."""

from __future__ import annotations

from tests.simulate.model.ends import end_all, withdraw
from tests.simulate.model.instances import cancel_activity
from tests.simulate.model.state import COMPLETE, DEAD, HALT, Case, Run


def start(case: Case) -> None:
    if case.status == "NOT_STARTED":
        case.status = "RUNNING"
        case.say("workflow", "started")
        case.roots = {ref for ref, place in case.places.items() if not place.plan.after and not place.plan.parent}


def pause(case: Case) -> None:
    if case.status == "RUNNING" and not case.ending:
        case.status = "PAUSED"
        case.say("workflow", "paused")


def resume(case: Case) -> None:
    if case.status == "PAUSED":
        case.status = "RUNNING"
        case.say("workflow", "resumed")
        for run in case.runs.values():
            if run.status == "PAUSED":
                case.say("resumed", run.name)
                case.move(run, "RUNNING")


def cancel_workflow(case: Case) -> None:
    if case.status in COMPLETE or case.ending == "CANCELED":
        return
    if case.status == "NOT_STARTED":
        case.say("workflow", "started")
    if case.status == "PAUSED":
        case.say("workflow", "resumed")
    case.status = "RUNNING"
    end_all(case, "CANCELED", "workflow_canceled")


def cancel(case: Case, name: str) -> None:
    run = case.runs.get(name)
    if run is not None and case.status not in COMPLETE:
        cancel_run(case, run)


def cancel_run(case: Case, run: Run) -> None:
    """CancelStage takes effect on a run: what needs it does not run."""
    if run.status not in COMPLETE:
        case.cancels = True
        withdraw(case, run, "command", HALT)
    elif run.is_first:
        cancel_activity(case, run.ref)


def cancel_region(case: Case, region: str) -> None:
    """CancelRegion: what follows goes on without the members."""
    for run in list(case.runs.values()):
        if region and case.plan(run).region == region and run.status not in COMPLETE and case.status not in COMPLETE:
            case.cancels = True
            withdraw(case, run, f"region:{region}", DEAD)
