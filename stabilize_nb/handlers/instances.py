"""Multi-instance activities: instances made while the workflow runs, and when their join has enough.

An activity is a parent, its instances and their join `<parent>_mi_join`. It is open from the start of the parent until
the join fires. Instances that are made later are rows of their own; the join counts them as its edges (WCP-12 to 15,
34 to 36).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import InstanceAdded, JoinPassed, StageWaits
from stabilize_nb.core.inputs import visible
from stabilize_nb.core.rows import ADDITIONS, is_pruned
from stabilize_nb.dag.readiness import Verdict, judge
from stabilize_nb.handlers.conditions import holds
from stabilize_nb.handlers.ending import end_stage, send_tokens
from stabilize_nb.handlers.entering import activate, begin_and_fail, enter
from stabilize_nb.models.ids import derived_id
from stabilize_nb.models.multi_instance import INSTANCE_COUNT, INSTANCE_INDEX, PARENT_REF_ID
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import StartStage, Token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import RoundRow, StageRow

S = WorkflowStatus


def is_join(draft: Draft, base: StageRow) -> bool:
    """Whether a stage is the join of a multi-instance activity."""
    parent = base.spec.mi_parent
    return bool(parent) and draft.stage(parent).spec.mi_join == base.id


def instance_id(parent: StageRow, index: int) -> str:
    """Return the id of an instance that is made while the workflow runs."""
    return derived_id(parent.id, f"instance:{parent.generation}", index)


def static_count(draft: Draft, parent: StageRow) -> int:
    """Return how many instances the workflow was written with."""
    if parent.spec.mi_join:
        return sum(source != parent.id for source in draft.stage(parent.spec.mi_join).spec.sources)
    prefix = f"{parent.spec.ref_id}_instance_"
    return sum(edge.ref_id.startswith(prefix) for edge in parent.spec.edges)


def has_thread(draft: Draft, parent: StageRow) -> bool:
    """Whether the parent of an activity has ended and passed its thread on: chosen, and not left by a jump."""
    if parent.status is S.SUCCEEDED:
        return all(draft.task(parent.id, at).status is not S.REDIRECT for at in range(len(parent.spec.tasks)))
    return parent.status in (S.FAILED_CONTINUE, S.SKIPPED) and not is_pruned(parent)


def made_instances(draft: Draft, parent: StageRow) -> list[StageRow]:
    """Return the instances that were made while the workflow runs."""
    first = static_count(draft, parent)
    return draft.stages(instance_id(parent, first + offset) for offset in range(parent.added))


def instances(draft: Draft, parent: StageRow) -> list[StageRow]:
    """Return all instances of an activity that has a join, as far as they have rows."""
    written = [source for source in draft.stage(parent.spec.mi_join).spec.sources if source != parent.id]
    return [*draft.stages(written), *made_instances(draft, parent)]


def add_instance(draft: Draft, parent: StageRow, context: Mapping[str, Any]) -> StageRow:
    """Make one more instance; its index is the next free one."""
    index = static_count(draft, parent) + parent.added
    row = instance_id(parent, index)
    template = parent.spec.mi_config["instance"].get("context", {})
    about = {PARENT_REF_ID: parent.spec.ref_id, INSTANCE_INDEX: index}
    draft.record(InstanceAdded(parent.id, row, index, {**template, **context, **about}))
    return draft.stage(row)


def begin_instance(draft: Draft, parent: StageRow, row: StageRow) -> None:
    """Start an instance by the thread of its parent; while the workflow is ending that thread is kept (2.9)."""
    if row.status.is_complete:
        return  # it was withdrawn before its thread came
    if draft.head.ending is None:
        enter(draft, activate(draft, row, 1, [parent.id], via=parent.id))
    else:
        _send(draft, parent, row)


def _send(draft: Draft, parent: StageRow, row: StageRow) -> None:
    draft.send(
        StartStage(
            execution_id=draft.head.id, stage_id=row.id, via=parent.id, via_generation=parent.generation,
            source=parent.id, number=parent.sent,
        )
    )  # fmt: skip


# -- the parent has ended ------------------------------------------------------------------------------


def parent_ended(draft: Draft, parent: StageRow, token: Token | None) -> None:
    """Make and start the instances whose number is known only now, or pass on that there is nothing to do."""
    config = parent.spec.mi_config
    if not config or parent.id != parent.base_id:
        return
    if token is not Token.LIVE:
        _without_thread(draft, parent, token)
        return
    join = draft.stage(parent.spec.mi_join) if parent.spec.mi_join else None
    later = join is None or parent.id in join.spec.sources
    try:
        contexts = _contexts(draft, parent) if later else []
    except ValueError as error:
        _fail(draft, parent, join, str(error))
        return
    for context in contexts:
        add_instance(draft, draft.stage(parent.id), context)
    parent = draft.stage(parent.id)
    for row in made_instances(draft, parent):
        begin_instance(draft, parent, row)
    if join is not None:
        _open(draft, draft.stage(parent.id), draft.stage(join.id))


def _without_thread(draft: Draft, parent: StageRow, token: Token | None) -> None:
    """Say for instances that were made while the parent ran that no thread comes; withdrawn ones have said so."""
    for row in made_instances(draft, parent):
        if row.fired:
            continue
        if token is Token.DEAD:
            end_stage(draft, row, S.SKIPPED, token=Token.DEAD, settles=1, reason="pruned")
        elif token is Token.HALT:
            draft.record(JoinPassed(row.id, 1, Token.HALT))
            send_tokens(draft, draft.stage(row.id), row.id, Token.HALT)


def _open(draft: Draft, parent: StageRow, join: StageRow) -> None:
    config = parent.spec.mi_config
    total = static_count(draft, parent) + parent.added
    if draft.head.ending is not None:
        if not total and not config["allow_dynamic"]:
            _send(draft, parent, join)
    elif config["allow_dynamic"] and not parent.closed:
        if not (join.fired or join.sent) and join.status is S.NOT_STARTED:
            draft.record(StageWaits(join.id, ADDITIONS))
    elif join.fired or join.sent or join.status is not S.NOT_STARTED:
        return  # withdrawn before its thread came
    elif not total:
        enter(draft, activate(draft, join, 1, [parent.id]))
    elif parent.added and config["join_threshold"] > total:
        _fail(draft, parent, join, f"waits for {config['join_threshold']} instances, and there are {total}")


def reopen(draft: Draft, join: StageRow) -> None:
    """Wait for additions again when the join of an open activity was reset without its parent."""
    parent = draft.stage(join.spec.mi_parent)
    config = parent.spec.mi_config
    is_dynamic = parent.spec.mi_join == join.id and config["allow_dynamic"] and not parent.closed
    if is_dynamic and has_thread(draft, parent):
        draft.record(StageWaits(join.id, ADDITIONS))


def _fail(draft: Draft, parent: StageRow, join: StageRow | None, error: str) -> None:
    if draft.head.ending is not None:
        return
    if join is None:
        join = draft.stage(parent.id)
    message = f"multi-instance activity {parent.ref_id!r}: {error}"
    begin_and_fail(draft, activate(draft, join, 1, [parent.id]), message)


def _contexts(draft: Draft, parent: StageRow) -> list[dict[str, Any]]:
    """Return what each instance gets that is made when the parent ends; raises ValueError with the reason."""
    config = parent.spec.mi_config
    seen = {**visible(draft, parent), **parent.outputs}
    key = config["collection_from_context"]
    if key:
        items = seen.get(key)
        if not isinstance(items, list):
            msg = f"{key!r} is {items!r}; a list is expected, one instance is made for each item"
            raise ValueError(msg)
        return [{config["item_context_key"]: item, INSTANCE_COUNT: len(items)} for item in items]
    key = config["count_from_context"]
    if key:
        count = seen.get(key)
        if type(count) is not int or count < 0:
            msg = f"{key!r} is {count!r}; the number of instances is expected, 0 or more"
            raise ValueError(msg)
        return [{INSTANCE_COUNT: count}] * count
    return []


# -- the join ------------------------------------------------------------------------------------------


def join_verdict(draft: Draft, join: StageRow, counts: RoundRow) -> Verdict:
    """Say what the join of an activity does after an outcome."""
    parent = draft.stage(join.spec.mi_parent)
    config = parent.spec.mi_config
    if parent.id in join.spec.sources and draft.arrival(join, counts.number, parent.id) is not None:
        if counts.live:
            return Verdict.FIRE
        return Verdict.BLOCK if counts.halt else Verdict.PRUNE
    total = static_count(draft, parent) + parent.added
    spec = join.spec
    is_open = join.waits == ADDITIONS or (parent.closed and has_thread(draft, parent))
    if not config["allow_dynamic"] or not is_open:
        return judge(spec.join_type, spec.join_threshold, total, counts.live, counts.dead, counts.halt, Token.LIVE)
    threshold = config["join_threshold"]
    if (threshold and counts.live >= threshold) or _is_satisfied(draft, parent, join, counts, total):
        return Verdict.FIRE
    if counts.live + counts.dead + counts.halt < total:
        return Verdict.WAIT
    if config["allow_dynamic"] and not parent.closed and (threshold or config["completion_condition"] or not total):
        return Verdict.WAIT
    if counts.halt and not (threshold or config["completion_condition"]):
        return Verdict.BLOCK
    if counts.live or not total or parent.closed:
        return Verdict.FIRE
    return Verdict.BLOCK if counts.halt else Verdict.PRUNE


def _is_satisfied(draft: Draft, parent: StageRow, join: StageRow, counts: RoundRow, total: int) -> bool:
    condition = parent.spec.mi_config["completion_condition"]
    if not condition:
        return False
    sources = [row.source for row in draft.arrivals(join, counts.number) if row.token is Token.LIVE]
    rows = sorted(draft.stages(sources), key=lambda row: row.ordinal)
    names = {"completed": counts.live, "total": total, "outputs": [dict(row.outputs) for row in rows]}
    return holds(draft, parent, condition, {**visible(draft, parent), **parent.outputs, **names})
