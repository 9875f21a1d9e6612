"""What becomes of a body's outcome when its task has a verifier: the engine asks before anything is committed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import StabilizeError, VerificationError, is_transient
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import plain_mapping
from stabilize_nb.queue.messages import Outcome, OutcomeKind
from stabilize_nb.secrets.hiding import hidden
from stabilize_nb.secrets.patterns import masked
from stabilize_nb.verification import VERIFICATION, VerifyResult, VerifyStatus, verdict

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.tasks.interface import Task
    from stabilize_nb.tasks.result import TaskResult


def has_to_be_verified(task: Task, outcome: Outcome) -> bool:
    """Whether there are outputs that a verifier has to see."""
    done = outcome.kind is OutcomeKind.DONE and outcome.status is WorkflowStatus.SUCCEEDED
    return done and getattr(task, "verifier", None) is not None


def verified(task: Task, stage: StageExecution, result: TaskResult, outcome: Outcome, attempts: int) -> Outcome:
    """Return the outcome with the verifier's word, or the failure or the retry that it has become."""
    said = _asked(task, stage, result)
    try:
        details = hidden(plain_mapping(dict(said.details), f"details of the verifier of stage {stage.ref_id!r}"))
    except StabilizeError as error:
        said, details = VerifyResult.failed(str(error)), {}
    message = masked(said.message)
    word: dict[str, Any] = {"status": said.status.name, "message": message, "details": details}
    if said.is_ok:
        return dataclasses.replace(outcome, context={**outcome.context, VERIFICATION: word})
    sentence = f"outputs of stage {stage.ref_id!r} were refused: {message}"
    retries = said.status is VerifyStatus.RETRY
    kind = "TransientVerificationError" if retries else "VerificationError"
    refused = Outcome(
        kind=OutcomeKind.DONE, status=WorkflowStatus.TERMINAL, error=sentence,
        details={"error": sentence, "type": kind, "transient": retries},
        context={VERIFICATION: {**word, "refused": outcome.outputs}},
    )  # fmt: skip
    if not retries:
        return refused
    after = round((said.retry_after or 0) * 1_000)
    return dataclasses.replace(refused, kind=OutcomeKind.RETRY, after=after, max_attempts=attempts, anew=True)


def _asked(task: Task, stage: StageExecution, result: TaskResult) -> VerifyResult:
    """Ask the verifier; raises what breaks in it as VerificationError, unless another try may help."""
    seen = dataclasses.replace(
        stage, outputs={**stage.outputs, **result.outputs}, context={**stage.context, **result.context}
    )
    assert task.verifier is not None, "has_to_be_verified"  # noqa: S101 - tells mypy
    try:
        return verdict(task.verifier.verify, seen)
    except Exception as error:
        if is_transient(error):
            raise
        name = type(task.verifier).__name__
        msg = f"{name} of stage {stage.ref_id!r} could not say anything: {type(error).__name__}: {error}"
        raise VerificationError(msg) from error
