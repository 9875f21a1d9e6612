"""Orders to an open multi-instance activity: one more, no more, that is enough (WCP-15, 26, 27, 36)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import ActivityClosed, InstanceRefused
from stabilize_nb.core.rows import RoundRow
from stabilize_nb.dag.readiness import Verdict
from stabilize_nb.handlers.ending import withdraw
from stabilize_nb.handlers.entering import activate, enter
from stabilize_nb.handlers.instances import add_instance, begin_instance, has_thread, instances, join_verdict
from stabilize_nb.handlers.joins import act
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow
    from stabilize_nb.queue.messages import AddMultiInstance, CloseMultiInstance, CompleteMultiInstance

S = WorkflowStatus


def open_join(draft: Draft, parent: StageRow) -> StageRow | None:
    """Return the join of an activity that is open and whose parent has ended, else None."""
    if not parent.spec.mi_join or not has_thread(draft, parent):
        return None
    join = draft.stage(parent.spec.mi_join)
    return None if join.fired or join.sent or join.status is not S.NOT_STARTED else join


def add_multi_instance(draft: Draft, message: AddMultiInstance) -> None:
    """Add an instance; the join waits for it. What cannot be added changes nothing and is said to be refused."""
    parent = draft.find(message.stage_id)
    if parent is None:
        return
    reason = _refusal(draft, parent)
    if reason:
        draft.record(InstanceRefused(parent.id, reason))
        return
    row = add_instance(draft, parent, message.instance_context)
    parent = draft.stage(parent.id)
    if parent.status.is_complete:
        begin_instance(draft, parent, row)


def _is_over(draft: Draft) -> bool:
    return draft.head.ending is not None or draft.head.status.is_complete


def _refusal(draft: Draft, parent: StageRow) -> str:
    config = parent.spec.mi_config
    if not config:
        return f"stage {parent.ref_id!r} has no instances"
    if not config["allow_dynamic"]:
        return f"the instances of stage {parent.ref_id!r} are fixed"
    if _is_over(draft):
        return "the workflow is over"
    if parent.closed:
        return "the activity was closed"
    if parent.status is S.NOT_STARTED:
        return f"stage {parent.ref_id!r} has not begun"
    if parent.status.is_complete and open_join(draft, parent) is None:
        return "the activity is over"
    return ""


def close_multi_instance(draft: Draft, message: CloseMultiInstance) -> None:
    """Accept no further instances; with all complete the activity is complete."""
    parent = draft.find(message.stage_id)
    if parent is None or not parent.spec.mi_config or parent.closed or parent.status is S.NOT_STARTED:
        return
    if _is_over(draft):
        return
    draft.record(ActivityClosed(parent.id))
    join = open_join(draft, draft.stage(parent.id))
    if join is None:
        return
    counts = draft.round(join, 1)
    if counts is not None:
        act(draft, join, 1, Token.LIVE, "")
    elif join_verdict(draft, join, RoundRow(join.id, join.generation, 1, 0, 0, 0, settled=False)) is Verdict.FIRE:
        enter(draft, activate(draft, join, 1, [parent.id]))


def complete_multi_instance(draft: Draft, message: CompleteMultiInstance) -> None:
    """Go on now with what there is: the rest is withdrawn."""
    parent = draft.find(message.stage_id)
    join = None if parent is None or _is_over(draft) else open_join(draft, parent)
    if parent is None or join is None:
        return
    if not parent.closed:
        draft.record(ActivityClosed(parent.id))
    sources = [row.source for row in draft.arrivals(join, 1) if row.token is Token.LIVE]
    fired = activate(draft, draft.stage(join.id), 1, sources or [parent.id])
    _withdraw_rest(draft, parent, "mi_completed", Token.DEAD)
    enter(draft, draft.stage(fired.id))


def cancel_activity(draft: Draft, parent: StageRow) -> bool:
    """Withdraw an open activity whose parent has ended; return whether there was one (WCP-26)."""
    join = open_join(draft, parent)
    if join is None:
        return False
    withdraw(draft, join, reason="mi_canceled", token=Token.HALT)
    _withdraw_rest(draft, parent, "mi_canceled", Token.DEAD)
    return True


def _withdraw_rest(draft: Draft, parent: StageRow, reason: str, token: Token) -> None:
    for instance in instances(draft, parent):
        for run in draft.runs(instance):
            withdraw(draft, draft.stage(run.id), reason=reason, token=token)
