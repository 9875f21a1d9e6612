"""StartStage: a token arrives; the stage starts when its join says so and it is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import JoinFired, JoinPassed, StageStarted, TokenArrived
from stabilize_nb.core.inputs import heritage, visible
from stabilize_nb.core.view import Arrivals
from stabilize_nb.dag.readiness import Verdict, judge
from stabilize_nb.expressions import ExpressionError, is_true
from stabilize_nb.handlers.ending import end_stage, fail_stage, send_tokens
from stabilize_nb.models.ids import derived_id
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import RunTask, StartStage, TimeoutStage, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import RoundRow, StageRow

S = WorkflowStatus


def start_stage(draft: Draft, message: StartStage) -> None:
    """Count the token and act on what the round then says."""
    base = draft.find(message.stage_id)
    if base is None or draft.head.ending is not None or not draft.is_current(message, base):
        return
    if message.via is None:
        if base.status is S.NOT_STARTED:
            enter(draft, base)
        return
    sender = draft.find(message.via)
    if sender is None or sender.generation != message.via_generation:
        return
    before = draft.round(base, message.number)
    if draft.has_arrived(base, message.number, message.via):
        return
    draft.record(TokenArrived(base.id, message.number, message.via, message.source, message.token))
    if before is None or not before.settled or base.spec.join_type is JoinType.MULTI_MERGE:
        _act(draft, base, message)


def _act(draft: Draft, base: StageRow, message: StartStage) -> None:
    spec = base.spec
    counts: RoundRow = draft.round(base, message.number)  # type: ignore[assignment] - an outcome has just been counted
    verdict = judge(
        spec.join_type, spec.join_threshold, spec.fan_in, counts.live, counts.dead, counts.halt, message.token
    )
    match verdict:
        case Verdict.FIRE:
            fire(draft, base, message)
        case Verdict.PRUNE:
            _pass_on(draft, base, message.number, Token.DEAD)
        case Verdict.BLOCK:
            _pass_on(draft, base, message.number, Token.HALT)
        case Verdict.FAIL:
            branches = ", ".join(spec.requisites)
            fail_stage(
                draft, base, settles=message.number,
                error=f"join of stage {base.ref_id!r} is unreachable: it waits for "
                f"{spec.join_threshold or spec.fan_in} of its branches ({branches}), and too few can still deliver",
            )  # fmt: skip
        case Verdict.WAIT:
            pass


def fire(draft: Draft, base: StageRow, message: StartStage) -> None:
    """Make the next activation of the stage from the live outcomes of the round, and enter it."""
    if base.spec.join_type is JoinType.MULTI_MERGE:
        sources = [message.source]
    else:
        arrivals = draft.view.members(
            Arrivals(base.id, base.generation, message.number),
            "arrival",
            lambda row: row[:3] == (base.id, base.generation, message.number),
        )
        sources = [arrival.source for arrival in arrivals if arrival.token is Token.LIVE]
    activate(draft, base, message.number, sources)


def activate(draft: Draft, base: StageRow, number: int, sources: list[str]) -> None:
    """Let the round `number` have fired: the stage's own row runs first, further runs get rows of their own."""
    triggers = sorted(draft.stages(sources), key=lambda row: (row.ordinal, row.activation))
    draft.round(base, number)
    activation = base.fired + 1
    row_id = base.id if activation == 1 else derived_id(base.id, f"activation:{base.generation}", activation)
    if row_id != base.id:
        for position in range(len(base.spec.tasks)):
            draft.task(base.id, position)
    draft.record(
        JoinFired(
            stage=base.id, number=number, row=row_id, activation=activation,
            depth=1 + max((row.depth for row in triggers), default=0),
            triggers=[row.id for row in triggers], inherited=heritage(triggers),
        )
    )  # fmt: skip
    enter(draft, draft.stage(row_id))


def _pass_on(draft: Draft, base: StageRow, number: int, token: Token) -> None:
    if token is Token.DEAD and base.fired == 0 and base.status is S.NOT_STARTED:
        end_stage(draft, base, S.SKIPPED, token=token, settles=number, reason="pruned")
        return
    draft.record(JoinPassed(base.id, number, token))
    send_tokens(draft, draft.stage(base.id), base.id, token)


def enter(draft: Draft, row: StageRow) -> None:
    """Start a run whose join has fired: a disabled stage passes its thread on, a stage without tasks is done."""
    if not _enabled(draft, row):
        end_stage(draft, row, S.SKIPPED, token=Token.LIVE, reason="disabled")
        return
    _load_tasks(draft, row)
    draft.record(StageStarted(row.id))
    head = draft.head
    limit = row.context.get("stageTimeoutMs")
    if limit is not None:
        timer = TimeoutStage(execution_id=head.id, stage_id=row.id, generation=row.generation)
        draft.send(timer, after=max(0, int(limit)))
    if row.spec.tasks:
        draft.send(
            RunTask(
                execution_id=head.id, stage_id=row.id, generation=row.generation, position=0,
                task_type=row.spec.tasks[0][1],
            )
        )  # fmt: skip
    else:
        end_stage(draft, draft.stage(row.id), S.SUCCEEDED, token=Token.LIVE)


def _load_tasks(draft: Draft, row: StageRow) -> None:
    if row.spec.tasks:
        draft.task(row.id, 0)


def _enabled(draft: Draft, row: StageRow) -> bool:
    enabled = row.context.get("stageEnabled", True)
    if isinstance(enabled, dict):
        enabled = enabled.get("expression", True)
    if isinstance(enabled, str):
        try:
            return is_true(enabled, visible(draft, row))
        except ExpressionError:
            return True
    return bool(enabled)
