"""Synthetic stages: what runs before, after and on failure of a stage's own tasks, as part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import PhaseEntered, StageEnded
from stabilize_nb.core.inputs import heritage
from stabilize_nb.core.rows import is_over
from stabilize_nb.handlers.choice import choose
from stabilize_nb.handlers.ending import end_stage, fail_stage, has_children, withdraw
from stabilize_nb.handlers.entering import activate, enter
from stabilize_nb.models.stage import SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow

S = WorkflowStatus
BEFORE, AFTER, FAILURE = SyntheticStageOwner
#: How a synthetic stage ends when what it stands for was done.
WELL = frozenset({S.SUCCEEDED, S.FAILED_CONTINUE, S.SKIPPED})


def begun(draft: Draft, row: StageRow) -> None:
    """A stage has begun: what runs before its tasks begins, unless it has begun only to fail."""
    if row.status is not S.RUNNING or row.phase:
        return
    if has_children(row, BEFORE):
        draft.record(PhaseEntered(row.id, BEFORE.value))
    elif not row.spec.tasks and has_children(row, AFTER):
        draft.record(PhaseEntered(row.id, AFTER.value))


def phase_entered(draft: Draft, fact: PhaseEntered) -> None:
    """Begin those synthetic stages of the phase that need no other."""
    row = draft.stage(fact.stage)
    children = [draft.stage(child.stage_id) for child in row.spec.children if child.owner == fact.phase]
    if not children or row.status is not S.RUNNING:
        return
    for child in children:
        if not child.spec.requisites and child.status is S.NOT_STARTED:
            enter(draft, activate(draft, child, 0, [row.id]))
    if all(is_over(draft.stage(child.id)) for child in children):
        child_over(draft, draft.stage(children[0].id))  # all were cancelled before


def child_over(draft: Draft, child: StageRow) -> None:
    """A synthetic stage is over, or was blocked: its parent goes on when all of the phase are."""
    parent = draft.find(child.spec.parent_stage_id)
    if parent is None or parent.status is not S.RUNNING or parent.phase != child.spec.synthetic_stage_owner:
        return
    children = [draft.stage(each.stage_id) for each in parent.spec.children if each.owner == parent.phase]
    runs = [run for each in children for run in draft.runs(each)]
    broken = [run for run in runs if is_over(run) and run.status not in WELL]
    if broken and parent.phase != FAILURE.value:
        _break_off(draft, parent, runs, broken[0])
    elif any(_is_silent(run) for run in broken):
        for run in runs:
            withdraw(draft, draft.stage(run.id), reason="workflow_failed")
        _go_on(draft, draft.stage(parent.id), [draft.stage(run.id) for run in runs])
    elif all(is_over(run) for run in runs):
        _go_on(draft, parent, runs)


def _is_silent(run: StageRow) -> bool:
    """Whether a run ended so that no part that needs it will ever hear of it: it failed, or the workflow failed."""
    return run.status in (S.TERMINAL, S.CANCELED) and not run.sent


def _break_off(draft: Draft, parent: StageRow, runs: list[StageRow], broken: StageRow) -> None:
    for run in runs:
        withdraw(draft, draft.stage(run.id), reason="workflow_failed")
    if broken.status is S.CANCELED and draft.head.ending is not None:
        withdraw(draft, draft.stage(parent.id), reason="workflow_failed")
        return
    why = broken.error or f"it ended {broken.status.name}"
    fail_stage(draft, draft.stage(parent.id), error=f"synthetic stage {broken.ref_id!r} failed: {why}")


def _go_on(draft: Draft, parent: StageRow, runs: list[StageRow]) -> None:
    left: dict[str, Any] = heritage([parent._replace(outputs={}), *runs])
    depth = 1 + max(run.depth for run in runs)
    if parent.phase == FAILURE.value:
        draft.record(PhaseEntered(parent.id, FAILURE.value, inherited=left, depth=depth))
        fail_stage(draft, draft.stage(parent.id), error=parent.error or "a task failed")
        return
    if parent.spec.deferred_choice_group and not parent.spec.tasks:
        choose(draft, parent)
    if parent.phase == BEFORE.value and parent.spec.tasks:
        draft.record(PhaseEntered(parent.id, "", inherited=left, depth=depth))
        row = draft.stage(parent.id)
        draft.call(row, draft.task(row.id, 0))
    elif parent.phase == BEFORE.value and has_children(parent, AFTER):
        draft.record(PhaseEntered(parent.id, AFTER.value, inherited=left, depth=depth))
    else:
        draft.record(PhaseEntered(parent.id, "", inherited=left, depth=depth))
        row = draft.stage(parent.id)
        end_stage(draft, row, S.FAILED_CONTINUE if row.softly_failed else S.SUCCEEDED, token=Token.LIVE)


def not_needed(draft: Draft, row: StageRow) -> None:
    """A stage is over: its synthetic stages that did not begin are skipped."""
    for child in row.spec.children:
        for run in draft.runs(draft.stage(child.stage_id)):
            if run.status is S.NOT_STARTED and not is_over(run):
                draft.record(StageEnded(run.id, S.SKIPPED, settles=1, reason="not needed"))
