"""How a run of a stage begins: its row, what stands in its way, its first task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import JoinFired, StageStarted, StageWaits
from stabilize_nb.core.inputs import heritage, visible
from stabilize_nb.core.rows import MILESTONE, activation_id, is_over
from stabilize_nb.core.view import ByRef
from stabilize_nb.dag.milestone import Gate, judge_milestone
from stabilize_nb.handlers.choice import choose, is_lost
from stabilize_nb.handlers.claims import choice_of, holder_of, let_go, mutex_of, take
from stabilize_nb.handlers.conditions import holds
from stabilize_nb.handlers.ending import end_stage, fail_stage, has_children, withdraw
from stabilize_nb.models.stage import SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import TimeoutStage, Token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow

S = WorkflowStatus
#: ms that no timer outlasts (about 285,000 years), and that added to a time stay far within 64 bits.
FOREVER = 2**53


def activate(draft: Draft, base: StageRow, number: int, sources: Iterable[str], via: str = "") -> StageRow:
    """
    Make the next run of a stage from the threads of `sources`, and return its row.

    The first is the stage's own row, further ones get rows of their own. Round `number` is settled with it; with
    `via`, the only edge, the outcome of that edge is taken with it.
    """
    triggers = sorted(draft.stages(sources), key=lambda row: (row.ordinal, row.activation))
    activation = base.fired + 1
    row_id = activation_id(base, activation)
    draft.record(
        JoinFired(
            stage=base.id,
            number=number,
            row=row_id,
            activation=activation,
            depth=1 + max((row.depth for row in triggers), default=0),
            triggers=[row.id for row in triggers],
            inherited=heritage(triggers),
            via=via,
        )
    )
    return draft.stage(row_id)


def enter(draft: Draft, row: StageRow) -> None:
    """Start a run as soon as nothing stands in its way: a lost choice, a switch, a milestone, a lock, a choice."""
    spec = row.spec
    if spec.deferred_choice_group and is_lost(draft, row):
        withdraw(draft, row, reason="deferred_choice", token=Token.DEAD)
    elif not _enabled(draft, row):
        end_stage(draft, row, S.SKIPPED, token=Token.LIVE, reason="disabled")
    elif spec.milestone_ref_id:
        _pass_milestone(draft, row)
    else:
        _claim(draft, row)


def _pass_milestone(draft: Draft, row: StageRow) -> None:
    match milestone_of(draft, row):
        case Gate.PASSED:
            end_stage(draft, row, S.SKIPPED, token=Token.LIVE, reason="milestone")
        case Gate.WAIT:
            if row.waits != MILESTONE:
                draft.record(StageWaits(row.id, MILESTONE))
                let_go(draft, draft.stage(row.id))  # of what was passed on to it while the milestone was open
        case Gate.OPEN:
            _claim(draft, row)


def milestone_of(draft: Draft, row: StageRow) -> Gate:
    """Look at the stage that a run's milestone speaks of, and at the one that closes the window."""
    spec = row.spec
    mark = draft.stage(draft.view.get(ByRef(spec.milestone_ref_id)))
    until = draft.stage(draft.view.get(ByRef(spec.milestone_until_ref_id))) if spec.milestone_until_ref_id else None
    closed = until is not None and until.started_at is not None
    blocked = is_over(mark) and not mark.status.is_complete
    return judge_milestone(spec.milestone_status, mark.status, blocked=blocked, closed=closed)


def _claim(draft: Draft, row: StageRow) -> None:
    spec = row.spec
    if spec.mutex_key and not take(draft, row, mutex_of(row), holder_of(draft, row)):
        return
    if spec.deferred_choice_group and not take(draft, draft.stage(row.id), choice_of(draft, row), row.id):
        return
    _begin(draft, draft.stage(row.id))


def _begin(draft: Draft, row: StageRow) -> None:
    limit = row.context.get("stageTimeoutMs")
    if limit is None:
        limit = FOREVER
    if type(limit) not in (int, float):
        begin_and_fail(draft, row, f"stageTimeoutMs of stage {row.ref_id!r} is {limit!r}; a number of ms is expected")
        return
    if row.spec.children and row.activation > 1:
        begin_and_fail(draft, row, _several(row))
        return
    draft.record(StageStarted(row.id))
    if limit < FOREVER:
        timer = TimeoutStage(execution_id=draft.head.id, stage_id=row.id, generation=row.generation)
        draft.send(timer, after=max(0, int(limit)))
    if has_children(row, SyntheticStageOwner.STAGE_BEFORE):
        return
    if row.spec.tasks:
        draft.call(draft.stage(row.id), draft.task(row.id, 0))
        return
    if row.spec.deferred_choice_group:
        choose(draft, draft.stage(row.id))
    if not has_children(row, SyntheticStageOwner.STAGE_AFTER):
        end_stage(draft, draft.stage(row.id), S.SUCCEEDED, token=Token.LIVE)


def _several(row: StageRow) -> str:
    return (
        f"stage {row.ref_id!r} is run by a second thread, and its synthetic stages can be run only once: put them into "
        "the graph as ordinary stages, or merge the threads before this stage"
    )


def begin_and_fail(draft: Draft, row: StageRow, error: str) -> None:
    """Start a run only to say why it cannot be."""
    draft.record(StageStarted(row.id))
    fail_stage(draft, draft.stage(row.id), error=error)


def _enabled(draft: Draft, row: StageRow) -> bool:
    enabled = row.context.get("stageEnabled", True)
    if isinstance(enabled, dict):
        enabled = enabled.get("expression", True)
    if isinstance(enabled, str):
        return holds(draft, row, enabled, visible(draft, row), otherwise=True)
    return bool(enabled)
