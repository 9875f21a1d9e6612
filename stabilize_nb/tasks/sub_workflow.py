"""SubWorkflowTask: a stage that is a whole workflow of its own (WCP-22)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import StabilizeError
from stabilize_nb.models.topology import check_topology
from stabilize_nb.tasks.child import CONFIG, with_plain_stages, workflow_of
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult, start_child

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: The signal by which the engine says that the child has ended.
CHILD_ENDED = "_child_ended"
DEPTH = "_recursion_depth"
MAX_DEPTH = "_max_recursion_depth"
#: Workflows below the first one, at most, where the context does not say it.
DEFAULT_MAX_DEPTH = 10


class SubWorkflowTask(Task):
    """Starts the child workflow that the context's `_sub_workflow_config` describes, and waits for its end.

    The config has `name`, `application` (else the parent's), `stages` and `context`, which becomes the child's
    workflow context. The outputs are those of the child, merged, and `sub_workflow_id` and `sub_workflow_status`; a
    child that does not succeed fails the stage. `_recursion_depth` is 0 in a workflow that nobody started so, and one
    more in each child; a child deeper than `_max_recursion_depth` (10; children inherit it) is not started.
    """

    sees_secrets = False

    def execute(self, stage: StageExecution) -> TaskResult:
        """Start the child, or turn its end into a result."""
        signal = stage.context.get("_signal_name")
        if signal == CHILD_ENDED:
            return _ended(stage, stage.context.get("_signal_data") or {})
        if signal is not None:
            return TaskResult.suspend()
        try:
            return start_child(_definition(stage))
        except StabilizeError as error:
            return TaskResult.terminal(f"stage {stage.ref_id!r} cannot start its sub-workflow: {error}")


def _definition(stage: StageExecution) -> dict[str, Any]:
    config = with_plain_stages(stage.context).get(CONFIG)
    if not isinstance(config, Mapping):
        msg = f"its context has {CONFIG} {config!r}; a mapping with name, application, stages and context is expected"
        raise StabilizeError(msg)
    depth = _number(stage, DEPTH, 0) + 1
    limit = _number(stage, MAX_DEPTH, DEFAULT_MAX_DEPTH)
    name = config.get("name") or stage.name or stage.ref_id
    if depth > limit:
        msg = f"{name!r} would be at depth {depth}, and {MAX_DEPTH} is {limit}; does the recursion have an end?"
        raise StabilizeError(msg)
    workflow = workflow_of({**config, "name": name})
    check_topology(workflow.name, workflow.stages)
    limits = {MAX_DEPTH: limit} if MAX_DEPTH in stage.context else {}
    return {
        "name": workflow.name, "application": workflow.application, "stages": config["stages"],
        "context": {**limits, **workflow.context, DEPTH: depth}, "depth": depth,
    }  # fmt: skip


def _number(stage: StageExecution, key: str, default: int) -> int:
    value = stage.context.get(key, default)
    if type(value) is not int or value < 0:
        msg = f"its context has {key} {value!r}; an integer of 0 or more is expected"
        raise StabilizeError(msg)
    return value


def _ended(stage: StageExecution, data: Mapping[str, Any]) -> TaskResult:
    child, status = data.get("workflow_id"), data.get("status")
    context = {"_sub_workflow_id": child}
    if status == "SUCCEEDED":
        about = {"sub_workflow_id": child, "sub_workflow_status": status}
        return TaskResult.success({**(data.get("outputs") or {}), **about}, context)
    config = stage.context.get(CONFIG)
    name = (config.get("name") if isinstance(config, Mapping) else None) or stage.name or stage.ref_id
    what = f"sub-workflow {name!r} ({child}) of stage {stage.ref_id!r}"
    return TaskResult.terminal(f"{what} ended {status}: {data.get('error') or 'it gave no reason'}", context)
