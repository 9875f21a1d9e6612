"""What the engine is given for a plan: workflows, and what the worker makes of a body's answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution, SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.queue.messages import Outcome, OutcomeKind
from stabilize_nb.store.store import define
from tests.simulate.model.state import ATTEMPTS
from tests.simulate.plan import Flow, Many, Stage

S = WorkflowStatus
FAILURES: dict[str, dict[str, Any]] = {
    "": {},
    "continue": {"continuePipelineOnFailure": True},
    "stop": {"failPipeline": False},
    "late": {"completeOtherBranchesThenFail": True},
}
CONDITIONS = {"": None, "completed>=2": "completed >= 2", "half": "completed >= 0.5 * total"}


class Answer(NamedTuple):
    """What a body of the plan answered, and the how manieth answer of its stage that is."""

    text: str
    number: int


def outcome_of(answer: Answer, ref: str, many: Many | None) -> Outcome:
    """Return what the worker makes of a body's answer."""
    kind, _, target = answer.text.partition(":")
    done = OutcomeKind.DONE
    match kind:
        case "ok":
            return Outcome(kind=done, outputs=_outputs(answer, ref, many))
        case "soft":
            return Outcome(kind=done, status=S.FAILED_CONTINUE, outputs=_outputs(answer, ref, many), error="softly")
        case "skip":
            return Outcome(kind=done, status=S.SKIPPED)
        case "stop":
            return Outcome(kind=done, status=S.STOPPED)
        case "fail":
            return Outcome(kind=done, status=S.TERMINAL, error="no")
        case "wait":
            return Outcome(kind=OutcomeKind.SUSPENDED)
        case "poll":
            return Outcome(kind=OutcomeKind.RUNNING, after=500)
        case "retry":
            return Outcome(kind=OutcomeKind.RETRY, error="not yet", max_attempts=ATTEMPTS)
        case "jump" | "loop":
            return Outcome(kind=OutcomeKind.JUMP, target=target, counted=kind == "jump")
    raise AssertionError(answer)


def _outputs(answer: Answer, ref: str, many: Many | None) -> dict[str, int]:
    outputs = {f"out_{ref}": answer.number, f"pass_{ref}": answer.number}
    if many is not None and many.later:
        outputs[f"count_{ref}"] = many.later[min(answer.number, len(many.later)) - 1]
    return outputs


def definition_of(flow: Flow, name: str) -> dict[str, Any]:
    """Return what is stored for a workflow; the ids of its stages begin with its name."""
    parents = {stage.ref for stage in flow.stages if stage.many}
    stages = [_stage(name, flow, stage) for stage in flow.stages]
    for stage in stages:
        _place_in_activity(stage, parents)
    context = {} if flow.max_jumps == Flow("", ()).max_jumps else {"_max_jumps": flow.max_jumps}
    made = Workflow.create("simulation", flow.name, stages, context=context)
    made.id = name
    return define(made)


def _stage(name: str, flow: Flow, stage: Stage) -> StageExecution:
    conditions = {"pass<2": f"pass_{stage.ref} < 2", "pass>=2": f"pass_{stage.ref} >= 2"}
    context = dict(FAILURES[stage.on_failure])
    if not stage.enabled:
        context["stageEnabled"] = False
    if stage.timeout:
        context["stageTimeoutMs"] = stage.timeout
    return StageExecution(
        ref_id=stage.ref, id=f"{name}.{stage.ref}", context=context, requisite_stage_ref_ids=set(stage.after),
        tasks=[TaskExecution.create(f"{stage.ref}.{number}", "task") for number in range(stage.tasks)],
        join_type=JoinType(stage.join), join_threshold=stage.threshold, split_type=SplitType(stage.split),
        split_conditions={ref: conditions.get(condition, condition) for ref, condition in stage.when},
        split_default=stage.default or None, join_blocking=stage.blocking, join_cancel_remaining=stage.cancel_rest,
        thread_split=stage.thread_split, thread_merge=stage.thread_merge, mi_config=_config(flow, stage),
        deferred_choice_group=stage.choice or None, mutex_key=stage.mutex or None,
        critical_section=stage.section or None, milestone_ref_id=stage.milestone[0] or None,
        milestone_status=stage.milestone[1] or None, milestone_until_ref_id=stage.until or None,
        cancel_region=stage.region or None, cancels_stages=set(stage.cancels),
        cancels_regions=set(stage.cancels_regions), ends_workflow=stage.ends or None,
        jump_targets=set(stage.jump_targets), parent_stage_id=f"{name}.{stage.parent}" if stage.parent else None,
        synthetic_stage_owner=SyntheticStageOwner(stage.owner) if stage.owner else None,
    )  # fmt: skip


def _config(flow: Flow, stage: Stage) -> MultiInstanceConfig | None:
    """Return the multi-instance settings of a stage, as the builder would write them."""
    many = stage.many
    if many is None:
        return None
    refs = {other.ref for other in flow.stages}
    return MultiInstanceConfig(
        count=sum(ref.startswith(f"{stage.ref}_instance_") for ref in refs), allow_dynamic=many.dynamic,
        count_from_context=f"count_{stage.ref}" if many.later else None, join_threshold=many.threshold,
        completion_condition=CONDITIONS[many.condition], sync_on_complete=f"{stage.ref}_mi_join" in refs,
        instance={"type": "instance", "name": stage.ref, "tasks": [["instance", "task"]], "context": {}},
    )  # fmt: skip


def _place_in_activity(stage: StageExecution, parents: set[str]) -> None:
    parent, _, index = stage.ref_id.rpartition("_instance_")
    if parent in parents:
        stage.context |= {"_mi_parent_ref_id": parent, "_mi_instance_index": int(index)}
    elif stage.ref_id.removesuffix("_mi_join") in parents - {stage.ref_id}:
        stage.context["_mi_parent_ref_id"] = stage.ref_id.removesuffix("_mi_join")
