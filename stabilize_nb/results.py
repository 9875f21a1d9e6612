"""What a workflow as a whole is to a program: the result that it was run for, and its graph of stages."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import RunFailedError
from stabilize_nb.models.multi_instance import PARENT_REF_ID, is_instance, join_ref
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.tasks.result import returned

if TYPE_CHECKING:
    import networkx as nx

    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow

S = WorkflowStatus
#: A frame of a traceback as text, with its lines of source, and the folder of this package.
_FRAME: Final = re.compile(r'  File "(?P<file>[^"]*)", line \d+.*\n(?:    .*\n)*')
_HERE: Final = f"{Path(__file__).parent}{os.sep}"


def result_of(workflow: Workflow) -> Any:
    """
    Return what a finished workflow was for; raises RunFailedError when it ended without success.

    That is the return value of the one stage nothing follows, or ref_id -> value when several are last.
    """
    if workflow.status is not S.SUCCEEDED:
        failed = [stage for stage in workflow.stages if stage.status in (S.TERMINAL, S.STOPPED)]
        failures = {stage.ref_id: stage.error or str(stage.status) for stage in failed}
        if not failures and workflow.error:
            failures = {workflow.name: workflow.error}
        error = RunFailedError(workflow.id, str(workflow.status), failures)
        for note in filter(None, map(where_it_failed, failed)):
            error.add_note(note)
        raise error
    followed = {ref for stage in workflow.stages for ref in stage.requisite_stage_ref_ids}
    followed |= {stage.ref_id for stage in workflow.stages if _is_part(stage, workflow)}
    last = [
        stage
        for stage in workflow.stages
        if stage.ref_id.partition("#")[0] not in followed and stage.status.is_complete and stage.outputs
    ]
    values = {stage.ref_id: returned(stage.outputs, stage.context) for stage in last}
    return next(iter(values.values())) if len(values) == 1 else (values or None)


def where_it_failed(stage: StageExecution) -> str:
    """Return the traceback of the code of a failed stage, without the frames of this package; "" for none."""
    match stage.context.get("exception"):
        case {"details": {"traceback": str(whole)}}:
            trace = _FRAME.sub(lambda frame: "" if frame["file"].startswith(_HERE) else frame[0], whole)
            return f"stage {stage.ref_id!r}: {obeyed_by_none(trace.strip())}" if _FRAME.search(trace) else ""
        case _:
            return ""


def _is_part(stage: StageExecution, workflow: Workflow) -> bool:
    """Whether a stage is a synthetic one, or an instance of an activity that has a join."""
    if stage.parent_stage_id is not None:
        return True
    join = join_ref(stage.context.get(PARENT_REF_ID, ""))
    return is_instance(stage.context) and any(each.ref_id == join for each in workflow.stages)


def graph_of(workflow: Workflow) -> nx.DiGraph[str]:
    """Return the graph of a workflow: nodes are ref_ids with `status` and `name`, edges point downstream."""
    import networkx as nx  # noqa: PLC0415 - heavy, and only needed for this

    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in workflow.stages:
        graph.add_node(stage.ref_id, status=stage.status.name, name=stage.name)
    for stage in workflow.stages:
        graph.add_edges_from((ref, stage.ref_id) for ref in sorted(stage.requisite_stage_ref_ids))
    return graph
