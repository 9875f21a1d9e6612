"""
Decisions by people: a task that waits for one, and the functions that deliver it.

A gate waits as a suspended stage, so it holds no worker and survives restarts. Decisions are persistent
signals: one that comes before the gate is reached is kept for it (WCP-24).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from stabilize_nb.models.values import plain_mapping
from stabilize_nb.pictures import with_pictures
from stabilize_nb.queue.messages import Message, SignalStage
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

APPROVE = "approve"
REJECT = "reject"


class SignalQueue(Protocol):
    """Whatever takes messages for the engine, such as a Queue."""

    def push(self, message: Message) -> Any:
        """Take one message."""


class ApprovalTask(Task):
    """Waits until somebody approves or rejects; other signals leave it waiting.

    Approved: outputs `approved` True and `approval`, the data that came with the decision. Rejected: the
    stage fails with a sentence that says who and why (`user` and `reason` in the data); with
    `approval_reject_continues` in the context it is FAILED_CONTINUE, with outputs `approved` False and
    `approval`.

    Read from the stage's context, for whoever shows the gate: `message`, the question; `show`, what is approved
    (`show_key`: the value or the stage that it is taken from when the gate begins to wait; `show_stage`: that stage,
    where it is called otherwise); `form`, field -> type ("str", "int", "float", "bool", "date", with "?" where it may
    be left empty) or list of values.

    `choices`: the decisions on offer, such as ["approve", "revise", "reject"]. Every one but "reject" approves; which
    one it was is `decision` in the data and among the outputs. A decision that is not on offer is refused.

    `timeout` ("2h", seconds) and `on_timeout` ("reject" if nothing is said, another choice, or "fail"): the gate
    decides itself when nobody did; its data say the user "deadline".
    """

    sees_secrets = False

    def execute(self, stage: StageExecution) -> TaskResult:
        """Wait, or turn the decision into a result."""
        match get_signal(stage):
            case ("approve", data):
                return TaskResult.success({"approved": True, "approval": data, **_choice(data)})
            case ("reject", data):
                return _rejected(stage, data)
            case ("deadline", data):
                return TaskResult.terminal(
                    f"approval {stage.ref_id!r} failed: {data.get('reason') or 'it is too late'}"
                )
            case _:
                return TaskResult.suspend(context={"show": with_pictures(_shown(stage))})


def _shown(stage: StageExecution) -> Any:
    """Return what is approved: the value that the context's `show_key` names, a key or a stage before the gate."""
    key = stage.context.get("show_key")
    if key is None:
        return stage.context.get("show")
    source = stage.context.get("show_stage") or key
    if stage.runtime is not None and source in stage.upstream:
        return dict(stage.upstream[source][-1].outputs)
    return stage.context.get(key)


def _rejected(stage: StageExecution, data: Mapping[str, Any]) -> TaskResult:
    who = data.get("user") or "somebody who gave no name"
    error = f"approval {stage.ref_id!r} was rejected by {who}: {data.get('reason') or 'no reason given'}"
    if stage.context.get("approval_reject_continues"):
        return TaskResult.failed_continue(error, {"approved": False, "approval": data, **_choice(data)})
    return TaskResult.terminal(error)


def _choice(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choice that was taken as an output, so that conditions can ask for it, if the gate names choices."""
    return {"decision": data["decision"]} if "decision" in data else {}


def approve(queue: SignalQueue, workflow_id: str, stage_id: str, data: Mapping[str, Any] | None = None) -> None:
    """Approve at the gate `stage_id`; `data` (such as `user`) becomes the output `approval`."""
    send_signal(queue, workflow_id, stage_id, APPROVE, data)


def reject(queue: SignalQueue, workflow_id: str, stage_id: str, data: Mapping[str, Any] | None = None) -> None:
    """Reject at the gate `stage_id`; `user` and `reason` in `data` stand in the error."""
    send_signal(queue, workflow_id, stage_id, REJECT, data)


def send_signal(
    queue: SignalQueue,
    workflow_id: str,
    stage_id: str,
    name: str,
    data: Mapping[str, Any] | None = None,
    persistent: bool = True,
) -> None:
    """
    Send a signal to one stage: one that is suspended resumes with it.

    For a stage that is not (yet) suspended the signal is kept when it is `persistent`, and else lost.

    Raises ValueNotStorableError when JSON cannot hold `data`.
    """
    content = plain_mapping({} if data is None else data, f"data of signal {name!r}")
    queue.push(
        SignalStage(
            execution_id=workflow_id,
            stage_id=stage_id,
            signal_name=name,
            signal_data=content,
            persistent=persistent,
        )
    )


def get_signal(stage: StageExecution) -> tuple[str, dict[str, Any]] | None:
    """Return name and data of the signal that resumed the running task; None when it runs without one."""
    name = stage.context.get("_signal_name")
    return None if name is None else (str(name), dict(stage.context.get("_signal_data") or {}))
