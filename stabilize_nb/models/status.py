"""The twelve statuses of workflows, stages and tasks, and the moves between them as a table.

Source: the reference documents (api.md 2.3). Only a reset (jump or restart) leaves a final status.
"""

from __future__ import annotations

from enum import StrEnum

from stabilize_nb.errors import StabilizeFatalError


class WorkflowStatus(StrEnum):
    """Where a workflow, a stage or a task stands; equal to its name: `run.status == "SUCCEEDED"`."""

    NOT_STARTED = "NOT_STARTED"  # nothing of it has run
    RUNNING = "RUNNING"  # work is being done or is queued
    PAUSED = "PAUSED"  # parked by a person until resumed
    SUSPENDED = "SUSPENDED"  # waits for a signal
    SUCCEEDED = "SUCCEEDED"  # done
    FAILED_CONTINUE = "FAILED_CONTINUE"  # failed, and what follows goes on all the same
    TERMINAL = "TERMINAL"  # failed; nothing after it runs
    CANCELED = "CANCELED"  # withdrawn by a person or by the control flow
    REDIRECT = "REDIRECT"  # left by a jump that is being carried out
    STOPPED = "STOPPED"  # broke off its own branch only
    SKIPPED = "SKIPPED"  # not carried out: disabled, or on a branch not taken
    BUFFERED = "BUFFERED"  # waits for a slot

    #: That of the text it is equal to, and quicker than that of Enum.
    __hash__ = str.__hash__

    @property
    def is_complete(self) -> bool:
        """Final: only a jump or a restart resets it."""
        return self in COMPLETE

    @property
    def is_halt(self) -> bool:
        """Ended in a way that stops what follows."""
        return self in HALT

    @property
    def is_successful(self) -> bool:
        """Ended as intended."""
        return self in SUCCESSFUL

    @property
    def is_failure(self) -> bool:
        """Ended in failure, tolerated or not."""
        return self in FAILURE


S = WorkflowStatus
COMPLETE = frozenset({S.CANCELED, S.SUCCEEDED, S.STOPPED, S.SKIPPED, S.TERMINAL, S.FAILED_CONTINUE})
HALT = frozenset({S.TERMINAL, S.CANCELED, S.STOPPED})
SUCCESSFUL = frozenset({S.SUCCEEDED, S.SKIPPED})
FAILURE = frozenset({S.TERMINAL, S.STOPPED, S.FAILED_CONTINUE})
#: Statuses in which a stage holds the workflow open.
OPEN = frozenset({S.RUNNING, S.SUSPENDED, S.PAUSED, S.BUFFERED, S.REDIRECT})

#: Every legal move. Staying where one is is always legal.
ALLOWED: dict[WorkflowStatus, frozenset[WorkflowStatus]] = {
    S.NOT_STARTED: frozenset({S.RUNNING, S.CANCELED, S.SKIPPED, S.BUFFERED, S.TERMINAL}),
    S.BUFFERED: frozenset({S.NOT_STARTED, S.RUNNING, S.CANCELED, S.SKIPPED}),
    S.RUNNING: COMPLETE | {S.PAUSED, S.SUSPENDED, S.REDIRECT},
    S.PAUSED: frozenset({S.RUNNING, S.CANCELED, S.STOPPED}),
    S.SUSPENDED: frozenset({S.RUNNING, S.CANCELED, S.STOPPED}),
    S.REDIRECT: frozenset({S.RUNNING, S.SUCCEEDED, S.CANCELED}),
    **{final: frozenset() for final in COMPLETE},
}


class InvalidStateTransitionError(StabilizeFatalError):
    """A status was about to make a move that the table does not have."""

    def __init__(
        self, current: WorkflowStatus, target: WorkflowStatus, entity_type: str = "entity", entity_id: str = ""
    ) -> None:
        self.current = current
        self.target = target
        self.entity_type = entity_type
        self.entity_id = entity_id
        legal = ", ".join(sorted(s.name for s in ALLOWED[current])) or "nothing (final)"
        super().__init__(f"{entity_type} {entity_id} cannot go from {current} to {target}; it may go to: {legal}")


def can_transition(current: WorkflowStatus, target: WorkflowStatus) -> bool:
    """Whether the table has this move."""
    return target is current or target in ALLOWED[current]


def validate_transition(
    current: WorkflowStatus, target: WorkflowStatus, entity_type: str = "entity", entity_id: str = ""
) -> None:
    """Raise InvalidStateTransitionError unless the table has this move."""
    if not can_transition(current, target):
        raise InvalidStateTransitionError(current, target, entity_type, entity_id)
