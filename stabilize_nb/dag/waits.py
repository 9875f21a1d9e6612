"""
What the order of stages makes impossible: milestones (WCP-18), locks (WCP-39), orders that come too late.

What a stage needs is a lower bound (`reach.Order`): a stage is left out of it as soon as a jump, a region, a choice or
a cancelling join could make up for it. So a wait that is called endless here is endless in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stabilize_nb.dag.finding import Finding, Graph, arrows, level, named
from stabilize_nb.dag.reach import union
from stabilize_nb.dag.shape import is_skippable
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import OPEN, WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stabilize_nb.models.stage import StageExecution

S = WorkflowStatus
_NOT_STARTED = S.NOT_STARTED.name
#: Statuses that a stage can have without ever having been started.
_UNBEGUN = frozenset({S.NOT_STARTED.name, S.SKIPPED.name, S.CANCELED.name})
#: Statuses of a stage that has begun and is not over.
_OPEN = frozenset(status.name for status in OPEN)
#: Statuses that only a stage has whose join has fired.
_RAN = frozenset({S.RUNNING.name, S.SUSPENDED.name, S.PAUSED.name, S.SUCCEEDED.name})
#: Statuses so short that a stage that waits for them hardly sees them.
_FLEETING = frozenset({S.BUFFERED.name, S.REDIRECT.name})


# -- milestones that wait for each other --------------------------------------------------------------


def endless_milestones(graph: Graph) -> Iterator[Finding]:
    """Stages whose milestone comes after themselves, alone or in a circle: nobody can be first."""
    for circle in _circles(graph, _stuck(graph)):
        parts = []
        for ref, behind in zip(circle, [*circle[1:], circle[0]], strict=True):
            mark = graph.stages[ref].milestone_ref_id or ""
            follows = f", which follows {behind!r} ({arrows(graph.path(behind, mark))})" if behind != mark else ""
            what = "itself" if mark == ref else repr(mark)
            parts.append(f"{ref!r} waits for {what} to be {graph.stages[ref].milestone_status}{follows}")
        yield Finding(
            level="contradiction",
            rule="endless_milestone",
            sentence=f"{named(circle)} can never start: {'; '.join(parts)}; name a milestone_ref_id that does not "
            "depend on the stage that waits for it",
            stages=tuple(circle),
        )


def _stuck(graph: Graph) -> dict[str, int]:
    """Return the stages that never get past their milestone, and what their milestones need, as a set."""
    waiting = {ref: _needed(graph, stage) for ref, stage in graph.stages.items() if _is_waiter(graph, stage)}
    stuck, before = union(graph.order.bit[ref] for ref in waiting), 0
    while stuck != before:
        before = stuck
        for ref in [*waiting, *reversed(waiting)]:  # one that is free may free its neighbour on either side
            if ref in waiting and not all(needed & stuck for needed in waiting[ref]):
                del waiting[ref]
                stuck &= ~graph.order.bit[ref]
    return {ref: needed[0] for ref, needed in waiting.items()}


def _is_waiter(graph: Graph, stage: StageExecution) -> bool:
    mark = stage.milestone_ref_id or ""
    return (
        mark in graph.stages
        and stage.milestone_status not in _UNBEGUN
        and graph.reach[mark].runs
        and graph.reach[stage.ref_id].runs
        and stage.context.get("stageEnabled", True) is True
        and not {mark, stage.ref_id} & graph.shape.withdrawable
    )


def _needed(graph: Graph, stage: StageExecution) -> list[int]:
    """Return what has to begin before the milestone is reached, and what before its window is closed."""
    refs = (stage.milestone_ref_id or "", stage.milestone_until_ref_id or "")
    return [graph.order.bit[ref] | graph.order.needs[ref] for ref in refs if ref in graph.stages]


def _circles(graph: Graph, stuck: Mapping[str, int]) -> Iterator[list[str]]:
    bit = graph.order.bit
    everyone = union(bit[ref] for ref in stuck)
    seen: set[str] = set()
    for first in stuck:
        trail: list[str] = []
        ref = first
        while ref not in seen:
            seen.add(ref)
            trail.append(ref)
            if not stuck[ref] & bit[ref]:
                ref = graph.order.last(stuck[ref] & everyone)
        if ref in trail:
            yield trail[trail.index(ref) :]


# -- milestones that are passed -----------------------------------------------------------------------


def passed_milestones(graph: Graph) -> Iterator[Finding]:
    """Stages that are always passed over, because their milestone is never reached or already gone."""
    for ref, stage in graph.stages.items():
        reason = _why_passed(graph, stage) if stage.milestone_ref_id in graph.stages else ""
        if reason and graph.reach[ref].runs:
            yield Finding(
                level="warning",
                rule="passed_milestone",
                sentence=f"stage {ref!r} is never carried out: {reason}; name a milestone that can be reached",
                stages=(ref,),
            )
        elif stage.milestone_status in _FLEETING:
            yield Finding(
                level="warning",
                rule="fleeting_milestone",
                sentence=f"stage {ref!r} waits for {stage.milestone_ref_id!r} to be {stage.milestone_status}, a status "
                "so short that it is hardly ever seen; wait for RUNNING or SUCCEEDED",
            )


def _why_passed(graph: Graph, stage: StageExecution) -> str:
    ref, mark, status = stage.ref_id, stage.milestone_ref_id or "", stage.milestone_status or ""
    until = stage.milestone_until_ref_id or ""
    if not graph.reach[mark].runs and status in _RAN:
        return f"it needs {mark!r} to be {status}, and {mark!r} can never run"
    if until == mark and status not in _UNBEGUN:
        return f"its window closes when {mark!r} starts, so {mark!r} is never {status} before"
    if stage.parent_stage_id is not None:
        return ""
    if graph.order.is_after(ref, mark) and status in _OPEN | {_NOT_STARTED} and _happens_once(graph, mark):
        way = arrows(graph.path(mark, ref))
        return f"it needs {mark!r} to be {status}, and {mark!r} is always over by then ({way})"
    if until in graph.stages and graph.order.is_after(ref, until) and _is_sure_to_start(graph, until):
        return f"its window is closed by {until!r}, which comes before it ({arrows(graph.path(until, ref))})"
    return ""


def _is_sure_to_start(graph: Graph, ref: str) -> bool:
    return graph.reach[ref].sure and not is_skippable(graph.stages[ref])


def _happens_once(graph: Graph, ref: str) -> bool:
    return graph.reach[ref].is_counted and graph.reach[ref].threads <= 1


# -- locks --------------------------------------------------------------------------------------------


def endless_locks(graph: Graph) -> Iterator[Finding]:
    """Stages that wait for a lock which is held until they themselves are over."""
    keys: dict[str, list[StageExecution]] = {}
    for stage in graph.stages.values():
        if stage.mutex_key is not None and graph.reach[stage.ref_id].runs:
            keys.setdefault(stage.mutex_key, []).append(stage)
    ids = {stage.id: stage for stage in graph.stages.values()}
    for stages in keys.values():
        yield from _inside_parent(stages, ids)
        sections: dict[str, list[str]] = {}
        for stage in stages:
            if stage.critical_section is not None:
                sections.setdefault(stage.critical_section, []).append(stage.ref_id)
        everyone = union(graph.order.bit[stage.ref_id] for stage in stages)
        for members in sections.values():
            yield from _inside_section(graph, members, everyone)


def _inside_parent(stages: Sequence[StageExecution], ids: Mapping[str, StageExecution]) -> Iterator[Finding]:
    """Synthetic stages that need the lock which the stage around them holds until they are over (WCP-17)."""
    for stage in stages:
        owner = ids.get(stage.parent_stage_id or "")
        if owner is None or owner.mutex_key != stage.mutex_key or is_skippable(stage):
            continue
        if stage.critical_section is None or stage.critical_section != owner.critical_section:
            yield Finding(
                level="contradiction",
                rule="endless_lock",
                sentence=f"stage {stage.ref_id!r} can never start: it needs the lock {stage.mutex_key!r}, which "
                f"{owner.ref_id!r} holds while its synthetic stages run ({owner.ref_id} → {stage.ref_id}); leave its "
                "mutex_key out",
                stages=(stage.ref_id,),
            )


def _inside_section(graph: Graph, members: Sequence[str], everyone: int) -> Iterator[Finding]:
    """Stages between two of a critical section that need its lock, as `everyone` does, and do not belong to it."""
    order = graph.order
    keepers = [ref for ref in members if ref not in graph.shape.withdrawable]
    taken = union(order.bit[ref] for ref in members if not is_skippable(graph.stages[ref]))
    first = taken & -taken
    between = union(order.needs[ref] for ref in keepers) & everyone & ~union(order.bit[ref] for ref in members) & -first
    while between:
        ref = order.last(between)
        between &= ~order.bit[ref]
        if order.needs[ref] & taken and not is_skippable(graph.stages[ref]):
            until = next(keeper for keeper in reversed(keepers) if order.is_after(keeper, ref))
            yield _locked_out(graph, ref, taken, until)


def _locked_out(graph: Graph, ref: str, taken: int, until: str) -> Finding:
    stage, order = graph.stages[ref], graph.order
    certain = order.needs[ref] & order.through[ref] & taken
    if ref in graph.shape.withdrawable and not _happens_once(graph, ref):
        certain = 0
    since = order.last(certain or order.needs[ref] & taken)
    when = "can never start" if certain else f"can never start once {since!r} has run"
    way = arrows([*graph.path(since, ref), *graph.path(ref, until)[1:]])
    return Finding(
        level=level(is_certain=bool(certain)),
        rule="endless_lock",
        sentence=f"stage {ref!r} {when}: it needs the lock {stage.mutex_key!r}, which the critical section "
        f"{graph.stages[until].critical_section!r} holds from {since!r} until {until!r} is over ({way}); give {ref!r} "
        "the same critical_section or another mutex_key",
        stages=(ref,) if certain else (),
    )


# -- orders that come too late ------------------------------------------------------------------------


def stages_after_the_end(graph: Graph) -> Iterator[Finding]:
    """Stages behind one that ends the workflow (WCP-20, WCP-43)."""
    for ref, stage in graph.stages.items():
        if stage.ends_workflow is None or is_skippable(stage):
            continue
        late = tuple(head for head in graph.shape.after[ref] if _needs_success(graph, head, ref))
        if late:
            yield Finding(
                level="warning",
                rule="after_the_end",
                sentence=f"{named(late)} cannot run after {ref!r}, which ends the workflow when it succeeds "
                f"({ref} → {late[0]}); let nothing follow it, or leave ends_workflow out",
                stages=late,
                edges=tuple((ref, head) for head in late),
            )


def _needs_success(graph: Graph, head: str, ref: str) -> bool:
    """Whether a stage never runs without another one, or waits for that one, which is sure to run."""
    is_awaited = graph.stages[head].join_type is JoinType.AND and graph.reach[ref].sure
    return graph.order.has_run(head, ref) or (is_awaited and graph.order.is_after(head, ref))


def late_cancellations(graph: Graph) -> Iterator[Finding]:
    """Stages that cancel only what is over by then, or a region that is empty (WCP-19, WCP-25)."""
    regions = {stage.cancel_region for stage in graph.stages.values()}
    for ref, stage in graph.stages.items():
        if not stage.cancels_stages and not stage.cancels_regions:
            continue
        over = [each for each in sorted(stage.cancels_stages & graph.stages.keys()) if _is_over(graph, each, ref)]
        if over and len(over) == len(stage.cancels_stages) and stage.parent_stage_id is None:
            yield Finding(
                level="warning",
                rule="late_cancellation",
                sentence=f"stage {ref!r} cancels {named(over)} when it completes, and by then that is always over; "
                "name stages that may still run beside it in cancels_stages",
            )
        empty = sorted(stage.cancels_regions - regions)
        if empty:
            yield Finding(
                level="warning",
                rule="empty_region",
                sentence=f"stage {ref!r} cancels the region {', '.join(map(repr, empty))}, in which there is no stage; "
                "set cancel_region of the stages that belong to it",
            )


def _is_over(graph: Graph, ref: str, by: str) -> bool:
    return _happens_once(graph, ref) and (ref == by or graph.order.is_after(by, ref))
