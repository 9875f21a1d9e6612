"""KeepOutput: what a body at work has printed so far enters the log, so that no crash takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.facts import TaskPrinted

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.queue.messages import KeepOutput


def keep_output(draft: Draft, message: KeepOutput) -> None:
    """Record the prints of an attempt, whatever has become of it; a stage that is gone has no log."""
    if draft.find(message.stage_id) is not None:
        draft.record(TaskPrinted(message.stage_id, message.position, message.attempt, message.output))
