"""
What is wrong with a graph of stages before it is run: stages that can never run, and waiting that never ends.

A contradiction is wrong in every run in which a thread gets that far, so a run is refused. A warning is what is hardly
meant; the run is not stopped by it. The rules look at structure alone (what can run: `reach`; who waits for whom:
`waits`), and where a body decides, they are silent:

- conditions that name anything count as true and as false, each by itself;
- a jump that is not declared in `jump_targets` is not seen, nor what a person cancels, restarts or signals;
- a stage behind a condition that is constantly false is a warning, because that is how a branch is switched off (2.1);
- a milestone or an end that depends on how a stage ends is judged for a stage that succeeds.

Source: patterns.md, whose sections and patterns the rules name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from stabilize_nb.dag.finding import LISTED, Finding, Graph, arrows, level, named, walked_back
from stabilize_nb.dag.reach import order_of, outlives_failure, reach_of, union, wanted
from stabilize_nb.dag.shape import Way, constant, is_skippable, shape_of
from stabilize_nb.dag.waits import (
    endless_locks,
    endless_milestones,
    late_cancellations,
    passed_milestones,
    stages_after_the_end,
)
from stabilize_nb.models.stage import SplitType, StageExecution

__all__ = ["Finding", "check_soundness", "contradictions", "softened"]


def check_soundness(stages: Sequence[StageExecution]) -> tuple[Finding, ...]:
    """
    Return what is wrong with a graph of stages, contradictions first.

    For stages that make no graph (a cycle, a name twice) nothing is returned: `check_topology` names that.
    """
    shape = shape_of(stages)
    if shape is None:
        return ()
    reach = reach_of(shape)
    graph = Graph(shape=shape, reach=reach, order=order_of(shape, reach))
    found = [finding for rule in RULES for finding in rule(graph)]
    return tuple(sorted(found, key=lambda finding: finding.level != "contradiction"))


def contradictions(findings: Iterable[Finding]) -> list[str]:
    """Return the sentences for which a run is refused."""
    return [finding.sentence for finding in findings if finding.level == "contradiction"]


def softened(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings as warnings, for a graph whose bodies may jump where nothing declares it."""
    return tuple(replace(finding, level="warning") for finding in findings)


# -- joins that never fire (WCP-30, WCP-41) -----------------------------------------------------------


def _is_starved(graph: Graph, ref: str) -> bool:
    """Whether a join gets LIVE outcomes, but in no run enough of them."""
    here = graph.reach[ref]
    leads = graph.shape.before[ref]
    return (
        bool(leads)
        and not here.runs
        and 0 < here.arriving < wanted(graph.stages[ref])
        and all(graph.reach[lead].ends is not Way.NEVER for lead in leads)
    )


def _starved_joins(graph: Graph) -> Iterator[Finding]:
    for ref, stage in graph.stages.items():
        if not _is_starved(graph, ref):
            continue
        leads = graph.shape.before[ref]
        most, needed = graph.reach[ref].arriving, wanted(stage)
        if stage.thread_merge > 1:
            sentence = (
                f"stage {ref!r} can never start: it merges {needed} threads, and no more than {most} can come "
                f"({_ways_in(leads, ref)}); set thread_merge to {most} or fewer, or thread_split before it to more"
            )
        else:
            sentence = (
                f"stage {ref!r} can never start: it waits for {needed} of its branches ({_ways_in(leads, ref)}), and "
                f"no more than {most} can deliver in one run, since the others are excluded by the same choice or "
                f"never taken; set join_threshold to {most} or fewer, or use JoinType.OR"
            )
        certain = stage.thread_merge > 1 or not outlives_failure(stage)
        edges = tuple((lead, ref) for lead in leads)
        yield Finding(
            level=level(is_certain=certain), rule="starved_join", sentence=sentence, stages=(ref,), edges=edges
        )


def _ways_in(leads: Sequence[str], ref: str) -> str:
    more = [f"{len(leads) - LISTED} more"] if len(leads) > LISTED else []
    return ", ".join([*(f"{lead} → {ref}" for lead in leads[:LISTED]), *more])


# -- stages that never run (2.1, 2.5) -----------------------------------------------------------------


def _dead_stages(graph: Graph) -> Iterator[Finding]:
    """Yield one finding for each edge or join that keeps stages from running, with all of these."""
    cause: dict[str, tuple[str, ...]] = {}
    before: dict[str, str] = {}
    groups: dict[tuple[str, ...], list[str]] = {}
    for ref in graph.stages:
        if graph.reach[ref].runs:
            continue
        if _is_starved(graph, ref):
            cause[ref] = (ref,)
            continue
        before[ref] = _lead_in_the_way(graph, ref)
        cause[ref] = cause.get(before[ref], (before[ref], ref))
        groups.setdefault(cause[ref], []).append(ref)
    for origin, refs in groups.items():
        way = arrows(walked_back(origin[0], refs[-1], before.__getitem__))
        because = (
            _why_never(graph, *origin) if len(origin) > 1 else f"nothing gets past {origin[0]!r}, which never starts"
        )
        yield Finding(
            level="warning",
            rule="dead_stage",
            sentence=f"{named(refs)} can never run: {because} ({way}); change that, or leave out what is never needed",
            stages=tuple(refs),
            edges=tuple((before[ref], ref) for ref in refs if ref not in graph.shape.parents),
        )


def _lead_in_the_way(graph: Graph, ref: str) -> str:
    """Return the requisite to blame for a stage that never runs: one that never ends, or else one never taken."""
    if ref in graph.shape.parents:
        return graph.shape.parents[ref]
    leads = graph.shape.before[ref]
    silent = (lead for lead in leads if graph.reach[lead].ends is Way.NEVER)
    missing = (lead for lead in leads if not (graph.reach[lead].passes and graph.shape.ways[lead][ref]))
    return next(silent, None) or next(missing)


def _why_never(graph: Graph, tail: str, head: str = "") -> str:
    """Say why nothing goes on from a stage along one of its edges, or at all."""
    if not head:
        return f"nothing gets past {tail!r}, which never starts"
    stage = graph.stages[tail]
    edge = f"the way from {tail!r} to {head!r} is never taken, because"
    condition = stage.split_conditions.get(head)
    if condition is not None and constant(condition) is False:
        return f"{edge} its condition {condition!r} is always false"
    if condition is None and head != stage.split_default:
        return f"{edge} an XOR split takes a branch by its condition or as split_default, and this one has neither"
    return f"{edge} another branch of the split is always taken first"


# -- splits (2.5) -------------------------------------------------------------------------------------


def _constant_conditions(graph: Graph) -> Iterator[Finding]:
    for ref, stage in graph.stages.items():
        if stage.split_type is SplitType.AND or not stage.split_conditions:
            continue
        ways = graph.shape.ways[ref]
        decided = [head for head in stage.split_conditions if _is_decided(graph, ref, head)]
        if decided:
            listed = ", ".join(f"{ref} → {head}: {stage.split_conditions[head]!r}" for head in decided[:LISTED])
            yield Finding(
                level="warning",
                rule="constant_condition",
                sentence=f"stage {ref!r} decides nothing by a condition that is a constant ({listed}); write a "
                "condition over inputs or outputs, or leave it out",
                edges=tuple((ref, head) for head in decided if ways[head] is Way.NEVER),
            )


def _is_decided(graph: Graph, ref: str, head: str) -> bool:
    """Whether a constant decides about an edge; one that is named as what keeps a stage from running is left out."""
    way = graph.shape.ways[ref].get(head, Way.MAYBE)
    if constant(graph.stages[ref].split_conditions[head]) is None:
        return False
    return way is Way.ALWAYS or (way is Way.NEVER and graph.reach[head].runs and not graph.reach[head].is_free)


def _ignored_conditions(graph: Graph) -> Iterator[Finding]:
    for ref, stage in graph.stages.items():
        if stage.split_type is SplitType.AND and (stage.split_conditions or stage.split_default):
            heads = dict.fromkeys([*stage.split_conditions, *filter(None, [stage.split_default])])
            listed = ", ".join(f"{ref} → {head}" for head in [*heads][:LISTED])
            yield Finding(
                level="warning",
                rule="ignored_condition",
                sentence=f"stage {ref!r} has conditions or a default ({listed}) that nobody asks, since SplitType.AND "
                "takes every branch; set split_type to SplitType.OR or SplitType.XOR",
            )


# -- loops (WCP-21) -----------------------------------------------------------------------------------


def _constant_loops(graph: Graph) -> Iterator[Finding]:
    for ref, stage in graph.stages.items():
        config = stage.context.get("_loop_config")
        if not isinstance(config, dict) or "entry" in config:
            continue
        truth = constant(config.get("condition", ""))
        if truth is None:
            continue
        until, most = config.get("until"), config.get("max_iterations")
        if truth is bool(until):
            outcome = "its body runs once" if until else "its body never runs"
        else:
            outcome = f"only max_iterations ends it, after {most} passes"
        yield Finding(
            level="warning",
            rule="constant_loop",
            sentence=f"the loop that begins at {ref!r} has the constant condition {config['condition']!r}: {outcome}; "
            "write a condition over what a pass gives",
        )


# -- deferred choices (WCP-16) ------------------------------------------------------------------------


def _poor_choices(graph: Graph) -> Iterator[Finding]:
    groups: dict[str, list[str]] = {}
    for ref, stage in graph.stages.items():
        if stage.deferred_choice_group is not None:
            groups.setdefault(stage.deferred_choice_group, []).append(ref)
    for group, refs in groups.items():
        if len(refs) == 1:
            yield Finding(
                level="warning",
                rule="lone_choice",
                sentence=f"stage {refs[0]!r} is the only member of the deferred choice {group!r}, so there is nothing "
                "to choose; give the other branches the same deferred_choice_group",
            )
        if not all(graph.reach[ref].is_counted for ref in refs):
            continue  # a jump may open the choice again
        able = union(graph.order.bit[ref] for ref in refs if not is_skippable(graph.stages[ref]))
        for ref in refs:
            if graph.order.through[ref] & able:
                winner = graph.order.last(graph.order.through[ref] & able)
                yield Finding(
                    level="warning",
                    rule="lost_choice",
                    sentence=f"stage {ref!r} can never run: {winner!r} of the same deferred choice {group!r} comes "
                    f"before it and has won by then ({arrows(graph.path(winner, ref))}); take one of them out of the "
                    "group",
                    stages=(ref,),
                )


RULES: Final = (
    _starved_joins, endless_milestones, endless_locks, _dead_stages, passed_milestones, stages_after_the_end,
    _poor_choices, _constant_conditions, _ignored_conditions, _constant_loops, late_cancellations,
)  # fmt: skip
