"""
What can become of each stage of a graph, and in what order, read from its structure alone and without running it.

One pass in topological order, no state space. Bodies decide the rest, so every statement here leans to one side:
`runs`, `passes` and the numbers are upper bounds, `sure` and `needed` lower ones. A stage of which `runs` is False
cannot run in any execution.

1. Only a condition that names nothing is a constant, so an edge of a split is taken ALWAYS, NEVER or MAYBE (2.5).
2. An AND- or OR-join needs an outcome on every edge, the others need LIVE ones (2.2).
3. Branches of one XOR split, and members of one deferred choice (WCP-16), exclude each other where the choice is made
   once: stages that need different options of one choice are never live together.
4. Thread splits and multi-merges multiply threads, thread merges divide them (WCP-8, 41, 42).
5. A declared jump starts its target whatever the join says (2.6), and a multi-instance join has branches that only a
   run knows (WCP-15, 27): behind both, threads are not counted and nothing is a choice made once.

Numbers in parentheses are sections of patterns.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING

from stabilize_nb.dag.choices import Choices
from stabilize_nb.dag.shape import Shape, Way
from stabilize_nb.models.record import named_record
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

#: Rounds of jumps that make further jumps possible; beyond them every declared jump counts.
PASSES = 4
_WAITS_FOR_ALL = (JoinType.AND, JoinType.OR)


@named_record
class Reach:
    """What can become of one stage between two jumps; without arguments: anything."""

    runs: bool = True  # its turn can come
    passes: bool = True  # its edges can say LIVE
    ends: Way = Way.MAYBE  # whether its edges say anything, if nothing upstream is broken off
    sure: bool = False  # it runs, if nothing upstream is broken off, withdrawn or left by a jump
    rounds: int = 1  # outcomes that it gives on an edge, before a thread split
    threads: int = 1  # those of them that are LIVE
    arriving: int = 1  # LIVE outcomes that its join has to choose from at one time
    needed: int = 0  # options without which it does not run, as bits
    is_counted: bool = False  # the numbers are bounds
    is_free: bool = True  # it may start whatever its edges say


def reach_of(shape: Shape) -> dict[str, Reach]:
    """
    Say of every stage what can become of it.

    A declared jump counts only if its stage can run, which may need another jump: looked at until nothing changes.
    """
    choices = Choices(shape)
    targets: set[str] = set()
    found = _walk(shape, choices, targets)
    for _ in range(PASSES):
        more = {ref for source, refs in shape.jumps.items() if found[source].runs for ref in refs} - targets
        if not more:
            return found
        targets |= more
        found = _walk(shape, choices, targets)
    return _walk(shape, choices, {ref for refs in shape.jumps.values() for ref in refs})


def _walk(shape: Shape, choices: Choices, targets: Container[str]) -> dict[str, Reach]:
    found: dict[str, Reach] = {}
    for ref, stage in shape.stages.items():
        leads = shape.before[ref]
        if ref in shape.parents:
            found[ref] = found[shape.parents[ref]]
        elif ref in targets or (ref in shape.grown and _passes(found, shape.grown[ref])):
            found[ref] = Reach()
        elif leads:
            edges = [_edge(shape, lead, ref, found[lead], choices) for lead in leads]
            is_counted = all(found[lead].is_counted for lead in leads)
            found[ref] = _reach(shape, stage, edges, choices, is_counted=is_counted)
        else:
            is_sure = ref not in shape.withdrawable
            needed = choices.of_group(stage)
            found[ref] = Reach(ends=Way.ALWAYS, sure=is_sure, needed=needed, is_counted=True, is_free=False)
    return found


def _passes(found: Mapping[str, Reach], ref: str) -> bool:
    return ref not in found or found[ref].passes


def wanted(stage: StageExecution) -> int:
    """Return how many LIVE outcomes the join of a stage takes for one firing, at least."""
    if stage.thread_merge > 1:
        return stage.thread_merge
    if stage.join_type is JoinType.N_OF_M:
        return stage.join_threshold or len(stage.requisite_stage_ref_ids)
    return 1


def outlives_failure(stage: StageExecution) -> bool:
    """Whether the workflow goes on when the stage fails (the reserved context keys of the reference documents)."""
    keys = ("continuePipelineOnFailure", "completeOtherBranchesThenFail")
    return any(stage.context.get(key) for key in keys) or stage.context.get("failPipeline") is False


def _edge(shape: Shape, lead: str, ref: str, tail: Reach, choices: Choices) -> Reach:
    """Return what a stage looks like from one of its edges: as it is, unless it chooses, multiplies or jumps."""
    stage = shape.stages[lead]
    if stage.split_type is SplitType.AND and stage.thread_split == 1 and not stage.jump_targets:
        return tail
    way = shape.ways[lead][ref]
    live = tail.passes and way is not Way.NEVER
    is_one_choice = stage.split_type is SplitType.XOR and tail.is_counted and tail.threads <= 1
    return Reach(
        passes=live,
        ends=tail.ends,
        sure=tail.sure and way is Way.ALWAYS and not stage.jump_targets,
        rounds=tail.rounds * stage.thread_split,
        threads=tail.threads * stage.thread_split if live else 0,
        needed=tail.needed | (choices.of_split(lead, ref) if is_one_choice else 0),
    )


def _reach(shape: Shape, stage: StageExecution, edges: Sequence[Reach], choices: Choices, *, is_counted: bool) -> Reach:
    live = [edge for edge in edges if edge.passes]
    all_end = min([edge.ends for edge in edges])
    is_withdrawable = stage.ref_id in shape.withdrawable
    least = wanted(stage)
    arriving = _arriving(stage, live, choices)
    is_starved = arriving < least and (is_counted or stage.thread_merge == 1)
    runs = bool(live) and not is_starved and not (all_end is Way.NEVER and stage.join_type in _WAITS_FOR_ALL)
    sure = runs and _is_sure(stage, edges, all_end, least)
    goes_on = is_starved and bool(live) and outlives_failure(stage)
    ends = all_end
    if sure:
        ends = Way.ALWAYS
    elif live and is_starved and not goes_on:
        ends = Way.NEVER if any(edge.sure for edge in live) else min(all_end, Way.MAYBE)
    elif runs or goes_on:
        ends = max(all_end, Way.MAYBE)
    threads = _threads(stage, live, least) if runs else int(goes_on)
    needed = common([edge.needed for edge in live])
    if is_counted and threads <= 1:
        needed |= choices.of_group(stage)
    return Reach(
        runs=runs,
        passes=runs or goes_on,
        ends=max(ends, Way.MAYBE) if is_withdrawable else ends,
        sure=sure and not is_withdrawable,
        rounds=max([threads, *[edge.rounds for edge in edges]]),
        threads=threads,
        arriving=arriving,
        needed=needed,
        is_counted=is_counted,
        is_free=False,
    )


def _arriving(stage: StageExecution, live: Sequence[Reach], choices: Choices) -> int:
    if stage.thread_merge > 1:
        return sum([edge.threads for edge in live])
    if stage.join_type is JoinType.N_OF_M:
        return choices.most([edge.needed for edge in live])
    return len(live)


def _is_sure(stage: StageExecution, edges: Sequence[Reach], all_end: Way, least: int) -> bool:
    if stage.thread_merge > 1:
        return False
    if all_end is not Way.ALWAYS and stage.join_type in _WAITS_FOR_ALL:
        return False
    return sum([edge.sure for edge in edges]) >= least


def _threads(stage: StageExecution, live: Sequence[Reach], least: int) -> int:
    total = sum([edge.threads for edge in live])
    if stage.join_type is JoinType.MULTI_MERGE:
        return total // stage.thread_merge
    return min(max([edge.rounds for edge in live]), total // least)


# -- order --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is certain about the order of stages, by ref_id.

    `bit`: a stage as a set, larger for one that comes later in `refs`. `needs`: stages that are over before it starts;
    for a synthetic stage also the stages that it is part of, which have begun. `through`: stages that have run
    whenever it starts.
    """

    refs: Sequence[str]
    bit: Mapping[str, int]
    needs: Mapping[str, int]
    through: Mapping[str, int]

    def is_after(self, ref: str, other: str) -> bool:
        """Whether `ref` never starts before `other` is over."""
        return bool(self.needs[ref] & self.bit[other])

    def has_run(self, ref: str, other: str) -> bool:
        """Whether `other` has run whenever `ref` starts."""
        return bool(self.through[ref] & self.bit[other])

    def follows(self, ref: str, other: str) -> bool:
        """Whether `ref` never starts before `other` is over, or never without it."""
        return self.is_after(ref, other) or self.has_run(ref, other)

    def last(self, stages: int) -> str:
        """Return the member of a set that comes last in the graph."""
        return self.refs[stages.bit_length() - 1]


def order_of(shape: Shape, reach: Mapping[str, Reach]) -> Order:
    """Return what is certain about the order of the stages."""
    bit = {ref: 1 << at for at, ref in enumerate(shape.stages)}
    needs: dict[str, int] = {}
    through: dict[str, int] = {}
    for ref, stage in shape.stages.items():
        needs[ref] = through[ref] = 0
        if ref in shape.parents:
            owner = shape.parents[ref]
            needs[ref] = needs[owner] | bit[owner]
            through[ref] = through[owner]
        elif shape.before[ref] and not reach[ref].is_free:
            leads = shape.before[ref]
            over = [bit[lead] | (0 if lead in shape.withdrawable else needs[lead]) for lead in leads]
            needs[ref] = union(over) if stage.join_type in _WAITS_FOR_ALL else common(over)
            live = [lead for lead in leads if reach[lead].passes and shape.ways[lead][ref]]
            through[ref] = common([bit[lead] | through[lead] for lead in live])
    return Order(refs=list(bit), bit=bit, needs=needs, through=through)


def union(sets: Iterable[int]) -> int:
    """Return what is in any of the sets."""
    return reduce(or_, sets, 0)


def common(sets: Sequence[int]) -> int:
    """Return what is in all of the sets; nothing when there is none."""
    return sets[0] if len(sets) == 1 else reduce(and_, sets) if sets else 0
