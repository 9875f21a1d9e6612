"""What a graph of stages must satisfy before anything of it is stored; all faults are named at once."""

from __future__ import annotations

import re
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from stabilize_nb.errors import InvalidWorkflowError
from stabilize_nb.expressions import ExpressionError, check_expression
from stabilize_nb.models.stage import JoinType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stabilize_nb.models.stage import StageExecution

#: Suffix of the rows that further activations of a stage get; users may not write it.
ACTIVATION_SUFFIX = re.compile(r"#\d+$")
#: Fields of the reference documents whose behaviour is not built yet: refused instead of ignored.
NOT_BUILT = (
    "mi_config",
    "deferred_choice_group",
    "milestone_ref_id",
    "mutex_key",
    "cancel_region",
    "synthetic_stage_owner",
)


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
    for stage in stages:
        branches = len(stage.requisite_stage_ref_ids)
        if stage.join_threshold < 0:
            yield f"stage {stage.ref_id!r} has the negative join_threshold {stage.join_threshold}"
        if stage.join_type is JoinType.N_OF_M and stage.join_threshold > branches:
            members = ", ".join(sorted(stage.requisite_stage_ref_ids)) or "none"
            yield (f"stage {stage.ref_id!r} waits for {stage.join_threshold} branches but has {branches} ({members})")


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


def _not_built(stages: Sequence[StageExecution]) -> Iterator[str]:
    for stage in stages:
        used = [field for field in NOT_BUILT if getattr(stage, field) is not None]
        if used:
            yield f"stage {stage.ref_id!r} uses {', '.join(used)}, which this version does not carry out yet"


RULES = (_names, _edges, _cycles, _joins, _splits, _not_built)
