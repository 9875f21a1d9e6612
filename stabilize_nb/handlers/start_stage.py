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
from stabilize_nb.queue.messages import StartStage, TimeoutStage, Token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import ArrivalRow, StageRow, StageSpec

S = WorkflowStatus
#: ms that no timer outlasts (about 285,000 years), and that added to a time stay far within 64 bits.
FOREVER = 2**53


def start_stage(draft: Draft, message: StartStage) -> None:
    """Count the token and act on what the round then says; while the workflow is ending it is only kept."""
    base = draft.find(message.stage_id)
    if base is None or not draft.is_current(message, base):
        return
    ending = draft.head.ending is not None
    if message.via is None:
        if base.status is S.NOT_STARTED and not ending:
            enter(draft, base)
        return
    sender = draft.find(message.via)
    if sender is None or sender.generation != message.via_generation:
        return
    if message.token is Token.LIVE and not ending and _is_plain(base):
        enter(draft, activate(draft, base, message.number, [message.source], message.via))
        return
    arrival = draft.arrival(base, message.number, message.via)
    if arrival is not None and (ending or not arrival.held):
        return
    draft.record(TokenArrived(base.id, message.number, message.via, message.source, message.token, held=ending))
    if not ending:
        _act(draft, base, message)


def _is_plain(base: StageRow) -> bool:
    """Whether a live outcome fires the stage, and no round has to be looked at: its only edge, its first outcome."""
    return base.spec.fan_in == 1 and base.status is S.NOT_STARTED and not base.fired and not base.sent


def _act(draft: Draft, base: StageRow, message: StartStage) -> None:
    counts = draft.round(base, message.number)
    if counts is None or counts.settled:
        return
    spec = base.spec
    verdict = judge(
        spec.join_type, spec.join_threshold, spec.fan_in, counts.live, counts.dead, counts.halt, message.token
    )
    match verdict:
        case Verdict.FIRE if spec.join_type is JoinType.MULTI_MERGE:
            enter(draft, activate(draft, base, 0, [message.source]))
        case Verdict.FIRE:
            enter(draft, _activate_round(draft, base, message.number))
        case Verdict.PRUNE:
            _pass_on(draft, base, message.number, Token.DEAD)
        case Verdict.BLOCK:
            _pass_on(draft, base, message.number, Token.HALT)
        case Verdict.FAIL:
            _fail(draft, _activate_round(draft, base, message.number), _unreachable(spec))
        case Verdict.WAIT:
            pass


def _unreachable(spec: StageSpec) -> str:
    branches = ", ".join(spec.requisites)
    return (
        f"join of stage {spec.ref_id!r} is unreachable: it waits for {spec.join_threshold or spec.fan_in} of its "
        f"branches ({branches}), and too few can still deliver"
    )


def _activate_round(draft: Draft, base: StageRow, number: int) -> StageRow:
    arrivals: list[ArrivalRow] = draft.view.members(
        Arrivals(base.id, base.generation, number),
        "arrival",
        lambda row: row[:3] == (base.id, base.generation, number) and not row.held,
    )
    sources = [arrival.source for arrival in arrivals if arrival.token is Token.LIVE]
    return activate(draft, base, number, sources)


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


def activation_id(base: StageRow, activation: int) -> str:
    """Return the id of the row of a stage's `activation`-th run in its present generation."""
    if activation == 1:
        return base.id
    return derived_id(base.id, f"activation:{base.generation}", activation)


def _pass_on(draft: Draft, base: StageRow, number: int, token: Token) -> None:
    if token is Token.DEAD and base.fired == 0 and base.status is S.NOT_STARTED:
        end_stage(draft, base, S.SKIPPED, token=token, settles=number, reason="pruned")
        return
    draft.record(JoinPassed(base.id, number, token))
    send_tokens(draft, draft.stage(base.id), base.id, token)


def enter(draft: Draft, row: StageRow) -> None:
    """Start a run: a disabled stage passes its thread on, a stage without tasks is done."""
    if not _enabled(draft, row):
        end_stage(draft, row, S.SKIPPED, token=Token.LIVE, reason="disabled")
        return
    limit = row.context.get("stageTimeoutMs")
    if limit is None:
        limit = FOREVER
    if type(limit) not in (int, float):
        _fail(draft, row, f"stageTimeoutMs of stage {row.ref_id!r} is {limit!r}; a number of ms is expected")
        return
    draft.record(StageStarted(row.id))
    if limit < FOREVER:
        timer = TimeoutStage(execution_id=draft.head.id, stage_id=row.id, generation=row.generation)
        draft.send(timer, after=max(0, int(limit)))
    if row.spec.tasks:
        draft.call(draft.stage(row.id), draft.task(row.id, 0))
    else:
        end_stage(draft, draft.stage(row.id), S.SUCCEEDED, token=Token.LIVE)


def _fail(draft: Draft, row: StageRow, error: str) -> None:
    draft.record(StageStarted(row.id))
    fail_stage(draft, draft.stage(row.id), error=error)


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
