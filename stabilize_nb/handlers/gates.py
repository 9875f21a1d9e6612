"""What is special about stages at which a person decides: which decisions count, and when the gate decides itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from stabilize_nb.core.facts import SignalDelivered, SignalRefused
from stabilize_nb.handlers.choice import choose
from stabilize_nb.models import gate
from stabilize_nb.models.gate import Refusal
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import TimeoutGate

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import SignalRow, StageRow, TaskRow
    from stabilize_nb.queue.messages import SignalStage

S = WorkflowStatus


def refused(draft: Draft, row: StageRow, message: SignalStage) -> bool:
    """Refuse a decision that cannot count, and say so in the log; of two for one gate the first counts."""
    if message.signal_name not in gate.DECISIONS or not _is_gate(row):
        return False
    reason = _refusal(draft, row, message)
    if reason is None:
        return False
    draft.record(
        SignalRefused(
            row.id, message.signal_name, message.signal_data, reason.value, message.fingerprint, message.decision_id
        )
    )
    return True


def _refusal(draft: Draft, row: StageRow, message: SignalStage) -> Refusal | None:
    bound = bool(message.fingerprint)
    if not draft.is_current(message, row):
        return Refusal.CHANGED if bound else None
    if row.status is S.SUSPENDED and not _is_in_doubt(draft, row):
        if bound and message.fingerprint != gate.fingerprint_of(row.context):
            return Refusal.CHANGED
        offered = gate.is_offered(row.context, message.signal_name, message.signal_data)
        return None if offered else Refusal.CHOICE
    if bound or row.status.is_complete or _is_decided(draft, row):
        return Refusal.NOT_WAITING
    return None


def _is_in_doubt(draft: Draft, row: StageRow) -> bool:
    """Whether a gate waits for somebody to say what became of its body, and for no decision yet."""
    task = draft.current_task(row)
    return task is not None and task.is_in_doubt


def _is_decided(draft: Draft, row: StageRow) -> bool:
    """Whether a decision is being carried out: its signal is with the task, or the task has ended with it."""
    tasks = (draft.task(row.id, at) for at, (_, name) in enumerate(row.spec.tasks) if name == gate.APPROVAL)
    return any(
        task.status.is_complete or (task.signal is not None and task.signal["name"] in gate.DECISIONS) for task in tasks
    )


def refused_kept(draft: Draft, row: StageRow, signal: SignalRow) -> bool:
    """Refuse a decision that came before its gate waited, and that it does not offer."""
    if not _is_gate(row) or signal.name not in gate.DECISIONS:
        return False
    if gate.is_offered(row.context, signal.name, signal.data) and not _asks(row):
        return False
    reason = Refusal.CHANGED.value if _asks(row) else Refusal.CHOICE.value  # what a body asks nobody knows beforehand
    draft.record(SignalRefused(row.id, signal.name, dict(signal.data), reason, signal=signal.id))
    return True


def _is_gate(row: StageRow) -> bool:
    return _asks(row) or gate.is_gate(implementing for _, implementing in row.spec.tasks)


def _asks(row: StageRow) -> bool:
    """Whether a body asks a person."""
    return bool(row.context.get(gate.ASKS))


def deliver(draft: Draft, row: StageRow, task: TaskRow, signal: SignalDelivered, decision_id: str = "") -> None:
    """Resume a stage with a signal; a decision is recorded with the fingerprint of what was shown."""
    if (task.implementing_class == gate.APPROVAL or _asks(row)) and signal.name in gate.DECISIONS:
        signal = dataclasses.replace(
            signal, data=gate.with_decision(row.context, signal.name, signal.data),
            fingerprint=gate.fingerprint_of(row.context), decision_id=decision_id,
        )  # fmt: skip
    if row.spec.deferred_choice_group:
        choose(draft, row)
    draft.record(signal)
    draft.call(row, task)


def fault(row: StageRow, task: TaskRow) -> str:
    """Return what is wrong with a gate that is to wait; nothing when nothing is."""
    return gate.fault_in(row.context) if task.implementing_class == gate.APPROVAL else ""


def set_timer(draft: Draft, row: StageRow, task: TaskRow) -> None:
    """Have a gate with a deadline decide itself then."""
    if task.implementing_class != gate.APPROVAL:
        return
    deadline = gate.deadline_of(row.context, task.first_started_at)
    if deadline is not None:
        timer = TimeoutGate(execution_id=draft.head.id, stage_id=row.id, generation=row.generation)
        draft.send(timer, after=max(0, deadline - draft.env.now))
