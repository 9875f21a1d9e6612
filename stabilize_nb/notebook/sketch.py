"""A workflow in words: what a picture of it shows, in no notation. The text DAG, Mermaid and DOT are drawn from it.

What shares a box (see `groups`) is shown with the status that most wants attention. What a stage says about control
flow is said by `signs`, with the same words in every notation; every string passes `shorten`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import networkx as nx

from stabilize_nb.dag.soundness import check_soundness
from stabilize_nb.gates import doubt_about
from stabilize_nb.models.gate import ASKS
from stabilize_nb.models.limit import limit_in
from stabilize_nb.models.multi_instance import parent_of_join
from stabilize_nb.models.stage import StageExecution, SyntheticStageOwner
from stabilize_nb.models.status import FAILURE, WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.folds import folded_arrows, folded_boxes, folds_of
from stabilize_nb.notebook.groups import Group, Grouping, base, group, join_ref_of, requisites
from stabilize_nb.notebook.looks import LOOKS, NAME_COLUMNS, shorten
from stabilize_nb.notebook.shown import CANNOT_RUN, WHEN, Arrow, Box, Line, Part, Sketch, tally
from stabilize_nb.notebook.signs import (
    Detail,
    Sign,
    again,
    condition_of,
    frames_of,
    instances_of,
    is_approval,
    is_nested,
    join_of,
    join_of_instances,
    loop_of,
    settings_of,
)

S = WorkflowStatus


def sketch(workflow: Workflow, notes: Mapping[str, str] | None = None) -> Sketch:
    """Say what a picture of `workflow` shows; `notes` adds a line to stages, by ref_id."""
    grouping = group(workflow.stages)
    edges = grouping.edges()
    place = {ref: number for number, ref in enumerate(_in_order(grouping.groups, edges))}
    others = [*_jumps(grouping, workflow.stages), *_states(grouping), *_cancellations(grouping)]
    aside = tuple(_drawn(grouping, others))
    repeated = _repeated(grouping.groups, edges, aside)
    stages, barred = _barred(workflow, grouping)
    boxes = {
        ref: _box(grouping, ref, (notes or {}).get(ref, ""), cannot_run=ref in stages, is_repeated=ref in repeated)
        for ref in place
    }
    flow = [
        _arrow(boxes, *pair, pair in barred, _label(grouping.stage(edges[pair][0]), edges[pair][1]))
        for pair in sorted(edges, key=lambda pair: (place[pair[1]], place[pair[0]]))
    ]
    folds = list(folds_of(grouping))
    return Sketch(
        title=shorten(workflow.name, NAME_COLUMNS) or "workflow",
        look=LOOKS[workflow.status],
        boxes=tuple(folded_boxes(boxes, folds).values()),
        arrows=folded_arrows((*flow, *aside), folds),
    )


def _repeated(refs: Iterable[str], edges: Iterable[tuple[str, str]], aside: Iterable[Arrow]) -> set[str]:
    """Return the boxes whose rounds are worth counting: a jump resets what is behind its cycle as well."""
    back = [(arrow.tail, arrow.head) for arrow in aside if arrow.line in {Line.JUMP, Line.LOOP}]
    if not back:
        return set(refs)  # a stage was restarted
    graph: nx.DiGraph[str] = nx.DiGraph([*edges, *back])
    cycles = [knot for knot in nx.strongly_connected_components(graph) if len(knot) > 1]
    return {tail for tail, head in back if tail == head}.union(*cycles)


def _barred(workflow: Workflow, grouping: Grouping) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the boxes and the edges of a definition that nothing can come to."""
    if workflow.status is not S.NOT_STARTED or workflow.start_time is not None:
        return set(), set()
    found = check_soundness(workflow.stages)
    box = grouping.box
    stages = {box[ref] for finding in found for ref in finding.stages if ref not in grouping.groups[box[ref]].parts}
    return stages, {(box[tail], box[head]) for finding in found for tail, head in finding.edges}


def _in_order(refs: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """Sort topologically. A cycle is condensed first: what was never checked is drawn all the same."""
    place = {ref: number for number, ref in enumerate(refs)}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(place)
    graph.add_edges_from(edges)
    knots = nx.condensation(graph)
    members = {knot: sorted(refs, key=place.__getitem__) for knot, refs in knots.nodes(data="members")}
    order = nx.lexicographical_topological_sort(knots, key=lambda knot: place[members[knot][0]])
    return [ref for knot in order for ref in members[knot]]


def _box(grouping: Grouping, ref: str, note: str, *, cannot_run: bool, is_repeated: bool) -> Box:
    here = grouping.groups[ref]
    activity, stage = here.activity, here.runs[0] if here.runs else StageExecution(ref_id=ref)
    status = _status_of_instances(grouping, here) if activity is not None else _status(here.runs)
    barred = Detail(CANNOT_RUN if cannot_run else "")
    rounds = Detail(f"round {stage.generation + 1}" if is_repeated and stage.generation and not loop_of(stage) else "")
    details = [barred, *_settings(here, stage), *_progress(here, stage, status), rounds, *_faults(here, status)]
    return Box(
        ref=ref,
        title=_title(here, ref),
        status=status,
        join=_join(grouping, ref, stage),
        details=tuple(dict.fromkeys(filter(_says_something, map(_short, [*details, Detail(note)])))),
        parts=_parts(stage, here.parts),
        frames=tuple(frames_of(stage)),
        end=stage.ends_workflow,
        is_gate=is_approval(stage),
        is_nested=is_nested(stage),
        is_stack=activity is not None,
        cannot_run=cannot_run,
    )


def _status(runs: Iterable[StageExecution]) -> WorkflowStatus:
    statuses = {run.status for run in runs}
    return next(status for status in LOOKS if status in statuses)


def _status_of_instances(grouping: Grouping, here: Group) -> WorkflowStatus:
    """Return the status of a stack. Instances that were withdrawn because others were enough want no attention."""
    if not here.runs:
        return S.SKIPPED if here.activity is not None and here.activity.status.is_complete else S.NOT_STARTED
    join = grouping.stages.get(join_ref_of(here.activity), ()) if here.activity is not None else ()
    is_passed = any(run.status is S.SUCCEEDED for run in join)
    wanted = [run for run in here.runs if run.status is not S.CANCELED] if is_passed else []
    return _status(wanted or here.runs)


def _title(here: Group, ref: str) -> str:
    if here.activity is None:
        return shorten(ref, NAME_COLUMNS) or "?"
    number = f" × {_count(here) or 'n'}"
    return shorten(base(here.activity.ref_id), NAME_COLUMNS - len(number)) + number


def _count(here: Group) -> int:
    """Return how many instances there are, or will be as far as the definition says it."""
    return len({base(run.ref_id) for run in here.runs}) or (here.config.count if here.config else 0)


def _short(detail: Detail) -> Detail:
    return replace(detail, words=shorten(detail.words))


def _says_something(detail: Detail) -> bool:
    return bool(detail.words)


def _join(grouping: Grouping, ref: str, stage: StageExecution) -> Detail | None:
    parent = parent_of_join(ref)
    if parent in grouping.stages and grouping.is_join_of(parent, ref):
        config = grouping.stage(parent).mi_config
        here = [each for each in grouping.groups.values() if each.activity is grouping.stage(parent)]
        said = join_of_instances(stage, config, sum(map(_count, here))) if config else None
    else:
        said = join_of(stage, len(requisites(stage)))
    return _short(said) if said else None


def _settings(here: Group, stage: StageExecution) -> Iterator[Detail]:
    if here.config is None:
        yield from settings_of(stage)
        return
    has_begun = any(run.status is not S.NOT_STARTED for run in here.runs)
    yield from instances_of(here.config, 0 if has_begun else _count(here))
    yield from (detail for detail in settings_of(stage) if detail.sign)


def _progress(here: Group, stage: StageExecution, status: WorkflowStatus) -> Iterator[Detail]:
    statuses = [run.status for run in here.runs]
    if is_approval(stage):
        yield Detail("waits for approval" if status is S.SUSPENDED else "approval")
    elif status is S.SUSPENDED and doubt_about(stage)[0]:
        yield Detail("what became of it?", Sign.WAIT)
    elif status is S.SUSPENDED and stage.context.get(ASKS):
        yield Detail("asks a person")
    elif status is S.SUSPENDED:
        yield Detail("waits for its sub-workflow" if is_nested(stage) else "waits for a signal", Sign.WAIT)
    if turns := sum(map(_waits_for_its_turn, here.runs)):
        yield Detail("waits for its turn" if len(statuses) == 1 else f"{turns} wait for their turn", Sign.WAIT)
    if here.activity is not None:
        yield from _done(statuses)
    elif len(statuses) > 1:
        yield Detail(f"{len(statuses)} runs" + (f": {tally(statuses)}" if len(set(statuses)) > 1 else ""))


def _waits_for_its_turn(stage: StageExecution) -> bool:
    """Whether a stage has a limit and its body has not begun."""
    begun = any(task.status is not S.NOT_STARTED for task in stage.tasks)
    return stage.status is S.RUNNING and not begun and limit_in(stage.context) is not None


def _faults(here: Group, status: WorkflowStatus) -> Iterator[Detail]:
    if status in FAILURE:
        errors = [run.error for run in here.runs if run.status is status and run.error]
        yield Detail(next(iter(errors), "").strip().partition("\n")[0])


def _done(statuses: Sequence[WorkflowStatus]) -> Iterator[Detail]:
    """Say how far the instances of an activity are; at the end, how they ended if they did not all succeed."""
    done = sum(status.is_complete for status in statuses)
    if done == len(statuses) and set(statuses) - {S.SUCCEEDED}:
        for status, number in Counter(statuses).most_common():
            yield Detail(f"{number} {LOOKS[status].word}", Sign.MANY, status)
    elif set(statuses) - {S.NOT_STARTED}:
        yield Detail(f"{done} of {len(statuses)} done", Sign.MANY)


def _parts(stage: StageExecution, parts: Mapping[str, Sequence[StageExecution]]) -> tuple[Part, ...]:
    """Return the synthetic stages of a box in the order in which they may run; instances share theirs."""
    runs: dict[tuple[SyntheticStageOwner | None, str], list[StageExecution]] = {}
    for ref, rows in parts.items():
        title = shorten(rows[0].name or ref.removeprefix(f"{base(stage.ref_id)}."), NAME_COLUMNS) or "?"
        runs.setdefault((rows[0].synthetic_stage_owner, title), []).extend(rows)
    order = [*WHEN]
    return tuple(
        Part(when=WHEN[owner], title=title, status=_status(runs[owner, title]))
        for owner, title in sorted(runs, key=lambda part: order.index(part[0]))
    )


def _arrow(boxes: Mapping[str, Box], tail: str, head: str, is_barred: bool, label: str) -> Arrow:
    line = Line.UNUSED if S.SKIPPED in {boxes[tail].status, boxes[head].status} else Line.FLOW
    return Arrow(tail=tail, head=head, label=shorten(label), line=line, is_barred=is_barred)


def _label(stage: StageExecution, head: str) -> str:
    threads = f"×{stage.thread_split}" if stage.thread_split > 1 else ""
    return ", ".join(filter(None, (condition_of(stage, head), threads)))


def _jumps(grouping: Grouping, stages: Sequence[StageExecution]) -> Iterator[tuple[str, str, str, Line]]:
    """Yield one arrow for each pair of stages; the ends of a jump both remember it, its number tells."""
    entries = [entry for stage in stages for entry in stage.context.get("_jump_history") or ()]
    jumps = {entry["jump_number"]: (base(entry["from_stage"]), base(entry["to_stage"])) for entry in entries}
    made = Counter(jumps.values())
    for (tail, head), count in sorted(made.items()):
        yield tail, head, f"jumped {count}×", Line.JUMP
    for tail in grouping.stages:
        stage = grouping.stage(tail)
        loop = loop_of(stage)
        for head in sorted(stage.jump_targets):
            if loop is not None and loop.get("entry") == head:
                yield tail, head, again(loop), Line.LOOP
            elif (tail, head) not in made:
                yield tail, head, "may jump", Line.JUMP


def _states(grouping: Grouping) -> Iterator[tuple[str, str, str, Line]]:
    for head in grouping.stages:
        stage = grouping.stage(head)
        if stage.milestone_ref_id is not None:
            yield stage.milestone_ref_id, head, f"while {stage.milestone_status or 'reached'}", Line.STATE
        if stage.milestone_until_ref_id is not None:
            yield stage.milestone_until_ref_id, head, "until it starts", Line.STATE


def _cancellations(grouping: Grouping) -> Iterator[tuple[str, str, str, Line]]:
    for tail in grouping.stages:
        for head in sorted(grouping.stage(tail).cancels_stages):
            yield tail, head, "cancels", Line.CANCEL


def _drawn(grouping: Grouping, arrows: Iterable[tuple[str, str, str, Line]]) -> Iterator[Arrow]:
    """Draw arrows between stages as arrows between their boxes, each once."""
    seen = set()
    for tail, head, label, line in arrows:
        if tail in grouping.box and head in grouping.box:
            arrow = Arrow(tail=grouping.box[tail], head=grouping.box[head], label=shorten(label), line=line)
            if arrow not in seen:
                seen.add(arrow)
                yield arrow


def describe(workflow: Workflow) -> str:
    """Say in one line what the picture of `workflow` shows: for those who do not see it."""
    return sketch(workflow).description
