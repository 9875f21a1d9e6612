"""A graph of stages as an analysis walks it: in order, with both ends of every edge and how certainly it is taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from stabilize_nb.expressions import ExpressionError, is_true
from stabilize_nb.models.multi_instance import join_ref
from stabilize_nb.models.stage import SplitType, StageExecution

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_NAME = re.compile(r"[^\W\d]\w*")
#: Words of an expression that name nothing.
_NO_NAMES = frozenset({"and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "null"})


class Way(IntEnum):
    """How certain it is that something happens in a graph; the larger, the more."""

    NEVER = 0
    MAYBE = 1
    ALWAYS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    Stages by ref_id, each after all that leads to it.

    `before`, `after`: its requisites, and what requires it. `ways`: how certainly an edge is taken, by tail and head.
    `parents`: a synthetic stage without requisites -> the stage that it is part of. `jumps`: what a stage declares to
    jump to. `withdrawable`: what a region, a choice, a join or another stage may cancel, also before it has started.
    `grown`: joins of multi-instance activities, whose branches come and go while the workflow runs -> the parent.
    """

    stages: Mapping[str, StageExecution]
    before: Mapping[str, tuple[str, ...]]
    after: Mapping[str, tuple[str, ...]]
    ways: Mapping[str, Mapping[str, Way]]
    parents: Mapping[str, str]
    jumps: Mapping[str, Collection[str]]
    withdrawable: frozenset[str]
    grown: Mapping[str, str]

    def leads(self, ref: str) -> tuple[str, ...]:
        """Return the requisites of a stage, or the one that it is part of."""
        return (self.parents[ref],) if ref in self.parents else self.before[ref]


def shape_of(stages: Sequence[StageExecution]) -> Shape | None:
    """Return the shape, or None for stages that make no graph: what is wrong with them `check_topology` says."""
    known = {stage.ref_id: stage for stage in stages}
    if len(known) < len(stages):
        return None
    before = {ref: tuple(sorted(stage.requisite_stage_ref_ids & known.keys())) for ref, stage in known.items()}
    ids = {stage.id: stage.ref_id for stage in stages}
    owners = {ref: ids[stage.parent_stage_id] for ref, stage in known.items() if stage.parent_stage_id in ids}
    leads = {ref: (*before[ref], owners[ref]) if ref in owners else before[ref] for ref in known}
    try:
        order = _in_order(leads)
    except CycleError:
        return None
    after: dict[str, list[str]] = {ref: [] for ref in order}
    for ref in order:
        for lead in before[ref]:
            after[lead].append(ref)
    return Shape(
        stages={ref: known[ref] for ref in order},
        before=before,
        after={ref: tuple(heads) for ref, heads in after.items()},
        ways={ref: _ways(known[ref], heads) for ref, heads in after.items()},
        parents={ref: owner for ref, owner in owners.items() if not before[ref]},
        jumps={stage.ref_id: stage.jump_targets & known.keys() for stage in stages if stage.jump_targets},
        withdrawable=_withdrawable(stages, before),
        grown={join_ref(stage.ref_id): stage.ref_id for stage in stages if stage.mi_config is not None},
    )


def _in_order(leads: Mapping[str, Sequence[str]]) -> list[str]:
    """Return stages after all that leads to them, else as they are given; raises CycleError for a cycle."""
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(leads, ()))
    for ref, before in leads.items():
        sorter.add(ref, *before)
    return list(sorter.static_order())


def is_skippable(stage: StageExecution) -> bool:
    """Whether the stage may pass a thread on without running (a bypass, patterns.md 2.1)."""
    return stage.context.get("stageEnabled", True) is not True or stage.milestone_ref_id is not None


def constant(condition: object) -> bool | None:
    """Return the truth of a condition that names nothing; None for one that does, or is no expression."""
    if not isinstance(condition, str) or not _NO_NAMES.issuperset(_NAME.findall(condition.lower())):
        return None
    try:
        return is_true(condition, {})
    except ExpressionError:
        return None


def _withdrawable(stages: Sequence[StageExecution], before: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    named = {ref for stage in stages for ref in stage.cancels_stages}
    named |= {stage.ref_id for stage in stages if stage.cancel_region or stage.deferred_choice_group}
    pending = [lead for stage in stages if stage.join_cancel_remaining for lead in before[stage.ref_id]]
    upstream: set[str] = set()
    while pending:
        ref = pending.pop()
        if ref not in upstream:
            upstream.add(ref)
            pending.extend(before[ref])
    return frozenset(named | upstream)


def _ways(stage: StageExecution, heads: Iterable[str]) -> dict[str, Way]:
    if stage.split_type is SplitType.AND:
        return dict.fromkeys(heads, Way.ALWAYS)
    truths = {head: constant(condition) for head, condition in stage.split_conditions.items()}
    if stage.split_type is SplitType.XOR:
        return _first_match(truths, stage.split_default, heads)
    return _every_match(truths, stage.split_default, heads)


def _first_match(truths: Mapping[str, bool | None], default: str | None, heads: Iterable[str]) -> dict[str, Way]:
    ways = dict.fromkeys(heads, Way.NEVER)
    left = Way.ALWAYS  # how certain it is that nothing has matched so far
    for head, truth in truths.items():
        if head in ways and truth is not False and left is not Way.NEVER:
            ways[head] = left if truth else Way.MAYBE
            left = Way.NEVER if truth else Way.MAYBE
    if default is not None and default in ways:
        ways[default] = max(ways[default], left)
    return ways


def _every_match(truths: Mapping[str, bool | None], default: str | None, heads: Iterable[str]) -> dict[str, Way]:
    certain = {True: Way.ALWAYS, False: Way.NEVER, None: Way.MAYBE}
    ways = {head: certain[truths.get(head, head != default)] for head in heads}
    if default is not None and default in ways:
        others = max((way for head, way in ways.items() if head != default), default=Way.NEVER)
        ways[default] = max(ways[default], Way(Way.ALWAYS - others))
    return ways
