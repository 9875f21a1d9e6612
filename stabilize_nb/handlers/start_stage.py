"""StartStage: a token arrives; the stage starts when its join says so and it is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import TokenArrived
from stabilize_nb.handlers.entering import activate, enter
from stabilize_nb.handlers.joins import act
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import StartStage, Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow

S = WorkflowStatus


def start_stage(draft: Draft, message: StartStage) -> None:
    """Count the token and act on what the round then says; while the workflow is ending it is only kept."""
    base = draft.find(message.stage_id)
    if base is None or not draft.is_current(message, base):
        return
    ending = draft.head.ending is not None and not _belongs(draft, base)
    if message.via is None:
        if base.status is S.NOT_STARTED and not base.waits and not ending:
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
        act(draft, draft.stage(base.id), message.number, message.token, message.source)


def _belongs(draft: Draft, base: StageRow) -> bool:
    """Whether a stage is a synthetic one: it is a part of one that may end what it has begun (patterns.md 2.9)."""
    return bool(base.spec.parent_stage_id) and draft.head.ending is S.TERMINAL


def _is_plain(base: StageRow) -> bool:
    """Whether a live outcome fires the stage, and no round has to be looked at: its only edge, its first outcome."""
    spec = base.spec
    untouched = base.status is S.NOT_STARTED and not base.fired and not base.sent
    return untouched and spec.fan_in == 1 and spec.thread_merge == 1 and not spec.mi_parent and not spec.join_blocking
