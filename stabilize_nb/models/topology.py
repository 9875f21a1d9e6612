"""What a graph of stages must satisfy before anything of it is stored; all faults are named at once."""

from __future__ import annotations

import re
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from stabilize_nb.errors import InvalidWorkflowError
from stabilize_nb.expressions import ExpressionError, check_expression
from stabilize_nb.models.multi_instance import join_ref
from stabilize_nb.models.settling import ON_CRASH
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stabilize_nb.models.stage import StageExecution

#: Suffix of the rows that further activations of a stage get; users may not write it.
ACTIVATION_SUFFIX = re.compile(r"#\d+$")
#: Joins that may be blocking or cancelling.
_PARTIAL = (JoinType.DISCRIMINATOR, JoinType.N_OF_M)
_ENDS = ("SUCCEEDED", "CANCELED")


def check_topology(name: str, stages: Sequence[StageExecution]) -> None:
    """Raise InvalidWorkflowError when the stages do not make a graph that can be run."""
    faults = [fault for rule in RULES for fault in rule(stages)]
    if faults:
        raise InvalidWorkflowError(name, faults)


def _names(stages: Sequence[StageExecution]) -> Iterator[str]:
    for ref, count in Counter(stage.ref_id for stage in stages).items():
        if not ref:
            yield "a stage has no ref_id"
        elif count > 1:
            yield f"duplicate ref_id {ref!r} ({count} stages)"
        if ACTIVATION_SUFFIX.search(ref):
            yield f"ref_id {ref!r} ends in '#' and a number, which is kept for further runs of a stage"


def _edges(stages: Sequence[StageExecution]) -> Iterator[str]:
    known = {stage.ref_id for stage in stages}
    for stage in stages:
        for ref in sorted(stage.requisite_stage_ref_ids):
            if ref == stage.ref_id:
                yield f"stage {ref!r} requires itself"
            elif ref not in known:
                yield f"stage {stage.ref_id!r} requires unknown stage {ref!r}"


def _cycles(stages: Sequence[StageExecution]) -> Iterator[str]:
    graph = {stage.ref_id: stage.requisite_stage_ref_ids - {stage.ref_id} for stage in stages}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "cycle: " + " → ".join(error.args[1])


def _joins(stages: Sequence[StageExecution]) -> Iterator[str]:
    later = _counted_later(stages)
    for stage in stages:
        branches = len(stage.requisite_stage_ref_ids)
        if stage.join_threshold < 0:
            yield f"stage {stage.ref_id!r} has the negative join_threshold {stage.join_threshold}"
        if stage.join_type is JoinType.N_OF_M and stage.join_threshold > branches and stage.ref_id not in later:
            members = ", ".join(sorted(stage.requisite_stage_ref_ids)) or "none"
            yield (f"stage {stage.ref_id!r} waits for {stage.join_threshold} branches but has {branches} ({members})")


def _counted_later(stages: Sequence[StageExecution]) -> set[str]:
    """Return the joins of multi-instance activities whose branches are made while the workflow runs."""
    configs = [(stage.ref_id, stage.mi_config) for stage in stages if stage.mi_config is not None]
    return {
        join_ref(ref)
        for ref, config in configs
        if config.allow_dynamic or config.count_from_context or config.collection_from_context
    }


def _splits(stages: Sequence[StageExecution]) -> Iterator[str]:
    downstream: dict[str, set[str]] = {stage.ref_id: set() for stage in stages}
    for stage in stages:
        for ref in stage.requisite_stage_ref_ids & downstream.keys():
            downstream[ref].add(stage.ref_id)
    for stage in stages:
        named = [*stage.split_conditions, *([stage.split_default] if stage.split_default else [])]
        for ref in named:
            if ref not in downstream[stage.ref_id]:
                yield f"stage {stage.ref_id!r} splits to {ref!r}, which is not directly downstream of it"
        for ref, condition in stage.split_conditions.items():
            try:
                check_expression(condition)
            except ExpressionError as error:
                yield f"stage {stage.ref_id!r} has a condition for {ref!r} that is not an expression: {error}"


def _references(stages: Sequence[StageExecution]) -> Iterator[str]:
    known = {stage.ref_id for stage in stages}
    for stage in stages:
        named: dict[str, set[str]] = {
            "milestone_ref_id": {stage.milestone_ref_id} if stage.milestone_ref_id else set(),
            "milestone_until_ref_id": {stage.milestone_until_ref_id} if stage.milestone_until_ref_id else set(),
            "cancels_stages": stage.cancels_stages,
            "jump_targets": stage.jump_targets,
        }
        for field, refs in named.items():
            for ref in sorted(ref for ref in refs if ref not in known):
                yield f"stage {stage.ref_id!r} names unknown stage {ref!r} as {field}"


def _milestones(stages: Sequence[StageExecution]) -> Iterator[str]:
    names = [status.name for status in WorkflowStatus]
    for stage in stages:
        here = f"stage {stage.ref_id!r}"
        if stage.milestone_status is not None and stage.milestone_status not in names:
            yield f"{here} has milestone_status {stage.milestone_status!r}; expected one of {', '.join(names)}"
        if (stage.milestone_ref_id is None) != (stage.milestone_status is None):
            yield f"{here} needs both milestone_ref_id and milestone_status, or neither"
        if stage.milestone_until_ref_id is not None and stage.milestone_ref_id is None:
            yield f"{here} has milestone_until_ref_id but no milestone_ref_id"


def _threads(stages: Sequence[StageExecution]) -> Iterator[str]:
    for stage in stages:
        here = f"stage {stage.ref_id!r}"
        for field in ("thread_split", "thread_merge"):
            if getattr(stage, field) < 1:
                yield f"{here} has {field}={getattr(stage, field)}; 1 or more is expected"
        single = len(stage.requisite_stage_ref_ids) == 1 or stage.join_type is JoinType.MULTI_MERGE
        if stage.thread_merge > 1 and not single:
            yield f"{here} has thread_merge={stage.thread_merge}, which needs one incoming edge or JoinType.MULTI_MERGE"
        for field in ("join_blocking", "join_cancel_remaining"):
            if getattr(stage, field) and stage.join_type not in _PARTIAL:
                yield f"{here} has {field}, which needs JoinType.DISCRIMINATOR or N_OF_M, not {stage.join_type.name}"


def _endings(stages: Sequence[StageExecution]) -> Iterator[str]:
    for stage in stages:
        if stage.ends_workflow not in (None, *_ENDS):
            expected = " or ".join(_ENDS)
            yield f"stage {stage.ref_id!r} has ends_workflow={stage.ends_workflow!r}; expected is {expected}"
        if stage.critical_section is not None and stage.mutex_key is None:
            yield f"stage {stage.ref_id!r} has critical_section {stage.critical_section!r} but no mutex_key"


def _instances(stages: Sequence[StageExecution]) -> Iterator[str]:
    for stage in stages:
        config = stage.mi_config
        if config is None or config.completion_condition is None:
            continue
        try:
            check_expression(config.completion_condition)
        except ExpressionError as error:
            yield f"stage {stage.ref_id!r} has a completion_condition that is not an expression: {error}"


def _synthetic(stages: Sequence[StageExecution]) -> Iterator[str]:
    by_id = {stage.id: stage for stage in stages}
    place = {stage.ref_id: (stage.parent_stage_id, stage.synthetic_stage_owner) for stage in stages}
    for stage in stages:
        here = f"stage {stage.ref_id!r}"
        if (stage.parent_stage_id is None) != (stage.synthetic_stage_owner is None):
            yield f"{here} needs both parent_stage_id and synthetic_stage_owner, or neither"
        elif stage.parent_stage_id is not None and stage.parent_stage_id not in by_id:
            yield f"{here} is synthetic, and its parent (id {stage.parent_stage_id}) is not in the workflow"
        for ref in sorted(stage.requisite_stage_ref_ids & place.keys()):
            if place[ref] != place[stage.ref_id]:
                yield f"{here} requires {ref!r}: both must be synthetic stages of the same parent and owner, or none"


def _crashes(stages: Sequence[StageExecution]) -> Iterator[str]:
    for stage in stages:
        if stage.on_crash not in ON_CRASH:
            expected = ", ".join(map(repr, ON_CRASH))
            yield f"stage {stage.ref_id!r} has on_crash={stage.on_crash!r}; expected is one of {expected}"


RULES = (
    _names, _edges, _cycles, _joins, _splits, _references, _milestones, _threads, _endings, _instances, _synthetic,
    _crashes,
)  # fmt: skip
