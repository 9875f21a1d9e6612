"""Why a run stands where it stands, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.run import Run

S = WorkflowStatus


def explain(run: Run) -> list[str]:
    """Return one sentence for each thing a run waits for or works at."""
    workflow = run.workflow
    if workflow.status.is_complete:
        return [f"ended {workflow.status}" + (f": {workflow.error}" if workflow.error else "")]
    missing = run.waiting_for_code()
    sentences = [f"waits for code: task {name!r} is not registered in this process" for name in missing]
    if workflow.status is S.PAUSED:
        sentences.append("paused: run.resume() goes on")
    for stage in workflow.stages:
        if stage.status is S.RUNNING:
            sentences.append(f"stage {stage.ref_id!r} runs")
        elif stage.status is S.SUSPENDED:
            sentences.append(f"stage {stage.ref_id!r} waits for a decision or signal")
    return sentences or ["nothing has begun yet"]


#: Why a stage was skipped or withdrawn, by the reason in its last fact.
_WHY: Mapping[str, str] = {
    "pruned": "no branch led to it",
    "disabled": "it is switched off",
    "milestone": "its milestone was over",
    "not needed": "it was not needed",
    "deferred_choice": "the choice fell on another stage",
    "command": "somebody ordered it",
    "workflow_failed": "the run had failed",
    "workflow_canceled": "the run was cancelled",
    "jump": "a jump went back",
    "join_fired": "the others were enough",
    "mi_threshold": "enough instances had ended",
    "mi_completed": "the activity was completed",
    "mi_canceled": "the activity was withdrawn",
}


def why(reason: str) -> str:
    """Return the reason of a fact in words; one that is not known says itself."""
    kind, _, region = reason.partition(":")
    if kind == "region" and region:
        return f"the region {region} was withdrawn"
    return _WHY.get(reason, reason)
