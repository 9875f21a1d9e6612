"""Whether a milestone lets a stage in (WCP-18)."""

from __future__ import annotations

from enum import Enum

from stabilize_nb.models.status import WorkflowStatus


class Gate(Enum):
    """What stands between a stage that is ready and its start."""

    OPEN = "OPEN"
    WAIT = "WAIT"  # not reached yet
    PASSED = "PASSED"  # can never be reached any more


def judge_milestone(required: str, status: WorkflowStatus, *, blocked: bool, closed: bool) -> Gate:
    """
    Say whether a stage may start that needs another one in the status `required`.

    `blocked` says that the other one was broken off before it began, `closed` that the stage which ends the window
    has begun.
    """
    if closed:
        return Gate.PASSED
    if status.name == required and not (blocked and required == WorkflowStatus.NOT_STARTED.name):
        return Gate.OPEN
    begun = status is not WorkflowStatus.NOT_STARTED
    if status.is_complete or blocked or (begun and required == WorkflowStatus.NOT_STARTED.name):
        return Gate.PASSED
    return Gate.WAIT
