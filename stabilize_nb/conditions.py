"""
Conditions: what can be said of a stage at a moment, each as yes, no or not known, with a reason for programs and a
message for people.

A status is one word; conditions answer the questions that are asked about it. `ConditionSet.of(stage)` makes them from
a stage of `run.workflow`, and from nothing else: they are not stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from stabilize_nb.models.status import OPEN, WorkflowStatus
from stabilize_nb.verification import VERIFICATION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb.models.stage import StageExecution

S = WorkflowStatus


class ConditionType(Enum):
    """What a condition is about."""

    READY = "Ready"  # it has begun, so all that it had to wait for has come
    PROGRESSING = "Progressing"  # it is at work, or waits for something that can come
    VERIFIED = "Verified"  # a verifier has looked at its outputs and let them pass
    SUCCEEDED = "Succeeded"  # it has ended as intended
    FAILED = "Failed"  # it has ended in failure, tolerated or not


class ConditionReason(Enum):
    """Why a condition is as it is."""

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    WAITING = "Waiting"  # for a signal, a person or a slot
    COMPLETED = "Completed"
    SKIPPED = "Skipped"
    FAILED = "Failed"
    CANCELED = "Canceled"
    VERIFICATION_PASSED = "VerificationPassed"
    VERIFICATION_REFUSED = "VerificationRefused"
    NOT_VERIFIED = "NotVerified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One answer; `status` is None when it is not known; `since` is ms since the epoch, or None."""

    type: ConditionType
    status: bool | None
    reason: ConditionReason
    message: str = ""
    since: int | None = None

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "type": self.type.value, "status": self.status, "reason": self.reason.value, "message": self.message,
            "since": self.since,
        }  # fmt: skip


class ConditionSet:
    """Conditions by their type, at most one of each."""

    def __init__(self, conditions: Iterable[Condition] = ()) -> None:
        self._by_type = {condition.type: condition for condition in conditions}

    @classmethod
    def of(cls, stage: StageExecution) -> Self:
        """Return what can be said of a stage."""
        status, reason = stage.status, _REASONS[stage.status]
        since = stage.end_time if status.is_complete else stage.start_time
        error = stage.error or ""
        done = status.is_complete
        said = {
            ConditionType.READY: stage.start_time is not None,
            ConditionType.PROGRESSING: status in OPEN,
            ConditionType.SUCCEEDED: status.is_successful if done else None,
            ConditionType.FAILED: status.is_failure if done else None,
        }
        conditions = [
            Condition(type=type_, status=holds, reason=reason, message=error, since=since)
            for type_, holds in said.items()
        ]
        return cls([*conditions, _verified(stage)])

    def get(self, type: ConditionType) -> Condition | None:
        """Return the condition of a type."""
        return self._by_type.get(type)

    def is_true(self, type: ConditionType) -> bool:
        """Whether a condition is known to hold."""
        found = self.get(type)
        return found is not None and found.status is True

    def put(self, condition: Condition) -> None:
        """Add a condition in place of the one of its type; `since` stays while the answer does."""
        before = self.get(condition.type)
        kept = before is not None and before.status == condition.status and before.reason is condition.reason
        self._by_type[condition.type] = before if kept and before is not None else condition

    def as_data(self) -> list[dict[str, Any]]:
        """Return them as plain data, in the order of their types."""
        return [self._by_type[type_].as_data() for type_ in ConditionType if type_ in self._by_type]

    def __iter__(self) -> Iterator[Condition]:
        return iter(self._by_type.values())

    def __len__(self) -> int:
        return len(self._by_type)


_REASONS = {
    S.NOT_STARTED: ConditionReason.NOT_STARTED,
    S.RUNNING: ConditionReason.IN_PROGRESS,
    S.REDIRECT: ConditionReason.IN_PROGRESS,
    S.PAUSED: ConditionReason.WAITING,
    S.SUSPENDED: ConditionReason.WAITING,
    S.BUFFERED: ConditionReason.WAITING,
    S.SUCCEEDED: ConditionReason.COMPLETED,
    S.SKIPPED: ConditionReason.SKIPPED,
    S.FAILED_CONTINUE: ConditionReason.FAILED,
    S.TERMINAL: ConditionReason.FAILED,
    S.STOPPED: ConditionReason.FAILED,
    S.CANCELED: ConditionReason.CANCELED,
}


def _verified(stage: StageExecution) -> Condition:
    """Return what a verifier has said; a stage that has none has it not verified."""
    word = stage.context.get(VERIFICATION)
    if word is None or stage.status is S.NOT_STARTED:
        return Condition(type=ConditionType.VERIFIED, status=None, reason=ConditionReason.NOT_VERIFIED)
    passed = "refused" not in word
    reason = ConditionReason.VERIFICATION_PASSED if passed else ConditionReason.VERIFICATION_REFUSED
    return Condition(
        type=ConditionType.VERIFIED, status=passed, reason=reason, message=word["message"], since=stage.end_time
    )
