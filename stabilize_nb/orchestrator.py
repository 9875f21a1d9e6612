"""Orchestrator: orders to the engine as method calls. It pushes messages and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.queue.messages import (
    CancelWorkflow,
    PauseWorkflow,
    RestartStage,
    ResumeWorkflow,
    StartWorkflow,
)

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.queue.queue import Queue
    from stabilize_nb.store.store import WorkflowStore


class Orchestrator:
    """Starts, cancels, pauses and resumes stored workflows."""

    def __init__(self, queue: Queue, store: WorkflowStore | None = None) -> None:
        self.queue = queue
        self.store = store

    def start(self, workflow: Workflow) -> None:
        """Begin a stored workflow; starting it twice starts it once."""
        self.queue.push(StartWorkflow(execution_id=workflow.id), message_id=f"start:{workflow.id}")

    def cancel(self, workflow: Workflow, user: str = "", reason: str = "") -> None:
        """Withdraw everything of a workflow that is not complete (WCP-20)."""
        self.queue.push(CancelWorkflow(execution_id=workflow.id, user=user, reason=reason))

    def pause(self, workflow: Workflow, user: str = "") -> None:
        """Begin no further task of a workflow."""
        self.queue.push(PauseWorkflow(execution_id=workflow.id, user=user))

    def unpause(self, workflow: Workflow, user: str = "") -> None:
        """Go on after a pause."""
        self.queue.push(ResumeWorkflow(execution_id=workflow.id, user=user))

    def restart(self, workflow: Workflow, stage_ref_id: str) -> None:
        """Run a stage and everything behind it again, also after the workflow has ended."""
        stage = workflow.stage_by_ref_id(stage_ref_id)
        self.queue.push(RestartStage(execution_id=workflow.id, stage_id=stage.id))
